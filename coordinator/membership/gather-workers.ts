/** Runs the rendezvous rule (rendezvous.ts) on every worker event until a generation can form. */
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { assignRanks } from './assign-ranks.ts';
import type { ControlServer } from './control-server.ts';
import { decideRendezvous, type Candidate } from './rendezvous.ts';
import type { ReadyWorker, Roster } from './roster.ts';
import type { RunPhase } from './run-phase.ts';
import { TICK_MS } from './tick.ts';
import type { WorkerHandle } from './worker-handle.ts';
import type { WorkerHost } from './worker-host.ts';

/** Time for workers that held the state to come back, after the coordinator has started or all workers were lost, ms. */
const AWAIT_MS = 5_000;

export interface GatherInit {
  readonly config: RunConfig;
  readonly membership: { readonly server: ControlServer; readonly roster: Roster };
  /** The last generation, of this epoch or the one before; undefined where no worker has trained. */
  readonly last: LastMembers | undefined;
  readonly state: CommittedState;
  readonly workerHost: Pick<WorkerHost, 'failure'>;
  readonly phase: Pick<RunPhase, 'waitFor' | 'stopReason'>;
  readonly clock: Clock;
}

export interface LastMembers {
  /** Worker ids in rank order. */
  readonly ids: readonly string[];
  /** Wait for them: this coordinator does not know yet which of them are left. */
  readonly mustReturn: boolean;
  /** Whether the process of one of them is known to have ended: its state is gone. */
  readonly hasEnded: (workerId: string) => boolean;
}

export interface CommittedState {
  /** Whether `heldStep` has the committed state, or a later one. */
  readonly isHolder: (heldStep: number) => boolean;
  /** The state of the committed step is in no checkpoint. */
  readonly needsHolder: boolean;
}

export type Gathered =
  /** In rank order. */
  | { readonly kind: 'members'; readonly members: readonly ReadyWorker[] }
  | { readonly kind: 'stopped' }
  /** No worker holds the state: the run must continue from an earlier one. */
  | { readonly kind: 'rewind'; readonly reason: string };

/** @throws RENDEZVOUS_TIMEOUT; WORKER_LOST where a worker process of this host is not restarted and too few are left; ABORTED */
export async function gatherWorkers(init: GatherInit, signal: AbortSignal): Promise<Gathered> {
  const { config, membership, last, state, workerHost, phase, clock } = init;
  const { server, roster } = membership;
  const { minWorkers, startWorkers = minWorkers, maxWorkers, rendezvousTimeoutMs } = config.cluster;
  const isStart = last === undefined;
  const { needsHolder } = state;
  const options = { isStart, needsHolder, awaitMs: AWAIT_MS, timeoutMs: rendezvousTimeoutMs };
  const startedMs = clock.monotonicMs();
  for (;;) {
    const waitedMs = clock.monotonicMs() - startedMs;
    const isStopping = phase.stopReason !== undefined;
    const ready = readyWorkers(roster, state, minWorkers);
    const staying = ready.filter(({ worker }) => !worker.isDraining);
    const holders = ready.filter(({ heldStep }) => heldStep !== null && state.isHolder(heldStep));
    const hasHolder = holders.length > 0;
    // With a holder, survivors need not wait for the others. Without one, a worker that holds the state may come back.
    const mayComeBack = last?.ids.filter((id) => !last.hasEnded(id)) ?? [];
    const isLost = !hasHolder && (mayComeBack.length === 0 || waitedMs >= AWAIT_MS);
    if (isStopping && (isStart || (needsHolder ? isLost : staying.length === 0))) return { kind: 'stopped' };
    // The run ends, or all holders of a state in no checkpoint leave: they save it first, and one of them is enough.
    const isLastSave = needsHolder && hasHolder && (isStopping || !staying.some((entry) => holders.includes(entry)));
    const entries = isLastSave ? holders : staying;
    roster.releaseDraining(entries.map(({ worker }) => worker));
    const needed = isStopping || isLastSave ? 1 : isStart ? startWorkers : minWorkers;
    const candidates = candidatesOf(entries, isLastSave ? [] : roster.preparing, state.isHolder);
    const mayWait = !isLastSave || !isStopping;
    const awaited = mayWait && (last?.mustReturn === true || (needsHolder && !hasHolder)) ? mayComeBack : [];
    const decision = decideRendezvous(waitedMs, candidates, { ...options, needed, awaited });
    phase.waitFor(decision.reason);
    const { failure } = workerHost;
    if (failure !== undefined && !isStopping && decision.kind === 'wait' && (isStart || candidates.length < needed))
      throw new TrainerError('WORKER_LOST', failure + roster.lastFailure);
    if (decision.kind === 'fail') throw new TrainerError('RENDEZVOUS_TIMEOUT', decision.reason + roster.lastFailure);
    if (decision.kind === 'rewind') return { kind: 'rewind', reason: decision.reason };
    if (decision.kind === 'form') {
      if (roster.refuseOdd(state.isHolder)) continue;
      const byId = new Map(entries.map((entry) => [entry.worker.workerId, entry]));
      const { members } = assignRanks(last?.ids ?? [], [...byId.keys()], maxWorkers ?? config.training.numLanes);
      return { kind: 'members', members: members.map((id) => byId.get(id)!) };
    }
    // Decide once for all events that came together.
    do {
      const event = await server.events.next(TICK_MS, signal);
      if (event !== undefined) roster.handle(event);
    } while (server.events.size > 0);
  }
}

/**
 * Those whose links are good. Where they are too few, or do not have the only state, also those whose links are not proved: nothing trains
 * meanwhile, so the generation itself tries them.
 */
function readyWorkers(roster: Roster, { isHolder, needsHolder }: CommittedState, minWorkers: number): ReadyWorker[] {
  const [good, unproved] = [roster.ready, roster.unproved].map((entries) =>
    entries.filter(({ worker }) => !worker.isDismissed),
  ) as [ReadyWorker[], ReadyWorker[]];
  const isEnough = good.filter(({ worker }) => !worker.isDraining).length >= minWorkers;
  const hasState = good.some(({ heldStep }) => heldStep !== null && isHolder(heldStep));
  return isEnough && (hasState || !needsHolder) ? good : [...good, ...unproved];
}

function candidatesOf(
  entries: readonly ReadyWorker[],
  joined: readonly WorkerHandle[],
  isHolder: CommittedState['isHolder'],
): Candidate[] {
  const preparing = joined.map(({ workerId, host }) => ({
    workerId,
    host,
    state: 'joined' as const,
    isHolder: false,
  }));
  const ready = entries.map(({ worker: { workerId, host }, heldStep }) => ({
    workerId,
    host,
    state: 'ready' as const,
    isHolder: heldStep !== null && isHolder(heldStep),
  }));
  return [...preparing, ...ready];
}
