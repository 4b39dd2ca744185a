/** The rendezvous at work: hears who joins and who is ready, and asks the pure rule (rendezvous.ts) after each event. */
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { assignRanks } from './assign-ranks.ts';
import type { ControlServer } from './control-server.ts';
import { decideRendezvous, type Candidate } from './rendezvous.ts';
import type { ReadyWorker, Roster } from './roster.ts';

const TICK_MS = 200;
/** Workers that held the state are waited for so long after a coordinator has begun, or everybody was lost, ms. */
const AWAIT_MS = 5_000;

export interface GatherInit {
  readonly config: RunConfig;
  readonly roster: Roster;
  readonly server: ControlServer;
  readonly clock: Clock;
  /** Ids in rank order of the generation before, of this epoch or the one before; undefined where nobody has trained. */
  readonly before: readonly string[] | undefined;
  /** They are to be waited for: this coordinator does not know yet who is left of them. */
  readonly awaitsThem: boolean;
  /** Whether the process of one of them is known to have ended: nobody waits for what it held. */
  readonly hasEnded: (workerId: string) => boolean;
  /** Whether a state with so many updates behind it is that of the run as far as it is committed, or further. */
  readonly isHolder: (heldStep: number) => boolean;
  /** The state of the committed step is in no checkpoint. */
  readonly needsHolder: boolean;
  /** What is being waited for. */
  readonly explain: (reason: string) => void;
  /** Why the run is to stop, once it is. */
  readonly stopReason: () => string | undefined;
  /** Which worker process of this host was given up, once one was. */
  readonly workerFailure: () => string | undefined;
  readonly signal: AbortSignal;
}

export type Gathered =
  /** In rank order. */
  | { readonly kind: 'members'; readonly members: readonly ReadyWorker[] }
  | { readonly kind: 'stopped' }
  /** Nobody holds the state: the run must go on from a checkpoint. */
  | { readonly kind: 'rewind'; readonly reason: string };

/** @throws RENDEZVOUS_TIMEOUT, WORKER_LOST where workers that this host started were given up, ABORTED */
export async function gatherWorkers(init: GatherInit): Promise<Gathered> {
  const { config, roster, server, clock, before, explain, stopReason, workerFailure, signal } = init;
  const { minWorkers, startWorkers = minWorkers, maxWorkers, rendezvousTimeoutMs } = config.cluster;
  const isStart = before === undefined;
  const options = {
    isStart,
    needsHolder: init.needsHolder,
    awaitMs: AWAIT_MS,
    timeoutMs: rendezvousTimeoutMs,
  };
  const startedMs = clock.monotonicMs();
  for (;;) {
    // Whoever is there is enough to save what was trained.
    const isStopping = stopReason() !== undefined;
    if (isStopping && (isStart || roster.ready.length + roster.preparing.length === 0)) return { kind: 'stopped' };
    const needed = isStopping ? 1 : isStart ? startWorkers : minWorkers;
    const candidates = candidatesOf(roster, init.isHolder);
    const holderIsThere = candidates.some(({ isHolder }) => isHolder);
    // Survivors need not wait for the others; where nobody is left who holds the state, somebody may come back who does.
    const mayComeBack = (before ?? []).filter((id) => !init.hasEnded(id));
    const awaited = init.awaitsThem || (init.needsHolder && !holderIsThere) ? mayComeBack : [];
    const decision = decideRendezvous(clock.monotonicMs() - startedMs, candidates, { ...options, needed, awaited });
    explain(decision.reason);
    const failure = workerFailure();
    if (failure !== undefined && decision.kind === 'wait' && (isStart || candidates.length < needed))
      throw new TrainerError('WORKER_LOST', failure + roster.lastFailure);
    if (decision.kind === 'fail') throw new TrainerError('RENDEZVOUS_TIMEOUT', decision.reason + roster.lastFailure);
    if (decision.kind === 'rewind') return { kind: 'rewind', reason: decision.reason };
    if (decision.kind === 'form') {
      const ready = new Map(roster.ready.map((entry) => [entry.worker.workerId, entry]));
      const { members } = assignRanks(before ?? [], [...ready.keys()], maxWorkers ?? config.training.numLanes);
      return { kind: 'members', members: members.map((id) => ready.get(id)!) };
    }
    // What came together is decided on together.
    do {
      const event = await server.events.next(TICK_MS, signal);
      if (event !== undefined) roster.handle(event);
    } while (server.events.size > 0);
  }
}

function candidatesOf(roster: Roster, isHolder: GatherInit['isHolder']): Candidate[] {
  const preparing = roster.preparing.map(({ workerId, host }) => ({
    workerId,
    host,
    state: 'joined' as const,
    isHolder: false,
  }));
  const ready = roster.ready.map(({ worker: { workerId, host }, heldStep }) => ({
    workerId,
    host,
    state: 'ready' as const,
    isHolder: heldStep !== null && isHolder(heldStep),
  }));
  return [...preparing, ...ready];
}
