/** From workers that are ready to a generation whose links are up and whose members hold the same state. */
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { fromErrorRecord, TrainerError } from '../../shared/errors.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import type { Logger } from '../../shared/logger.ts';
import type { StateSource } from '../../shared/protocol/messages.ts';
import type { ControlServer } from '../membership/control-server.ts';
import { type DigestReport, judgeProofs } from '../step/divergence.ts';
import type { Journal } from '../journal/journal.ts';
import { listNames } from '../../shared/list-names.ts';
import type { ReadyWorker, Roster } from '../membership/roster.ts';
import { sendEach, type WorkerHandle } from '../membership/worker-handle.ts';
import { planStateSources } from './state-sources.ts';
import type { BrokenGeneration, Generation } from '../membership/generation.ts';

export interface FormInit {
  /** In rank order. */
  readonly members: readonly ReadyWorker[];
  readonly epoch: number;
  readonly generation: number;
  /** Updates behind the state it starts from. */
  readonly step: number;
  /** Whether a state with so many updates behind it is that one: what came between was skipped. */
  readonly isState: (heldStep: number) => boolean;
  /** Lanes per second of each member, where lanes are dealt by them. */
  readonly speeds: readonly number[] | undefined;
  /** What members load where nobody holds that state; null: the seed. */
  readonly checkpoint: { readonly path: string; readonly paramDigest: string } | undefined;
  readonly config: RunConfig;
  readonly roster: Roster;
  readonly server: ControlServer;
  readonly journal: Pick<Journal, 'append'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** What is being waited for. */
  readonly explain: (reason: string) => void;
  readonly signal: AbortSignal;
}

/** It could not be formed: somebody left, failed, or was too late. */
export interface FormFailure extends BrokenGeneration {
  readonly generation: Generation;
}

/**
 * Deals ranks and lanes, and waits until every member has links and state.
 * @throws STATE_DIVERGED where members prove different states, and nobody can tell which is right; ABORTED
 */
export async function formGeneration(
  init: FormInit,
): Promise<FormFailure | { readonly kind: 'formed'; readonly generation: Generation }> {
  const {
    members,
    epoch,
    generation: number,
    step,
    config,
    roster,
    server,
    journal,
    clock,
    log,
    explain,
    signal,
  } = init;
  const handles = members.map(({ worker }) => worker);
  const { runs, reason } = assignLanes(config.training.numLanes, members.length, init.speeds);
  const generation: Generation = { epoch, generation: number, members: handles, runs };
  const firstStep = step + 1;
  const ids = handles.map(({ workerId }) => workerId);
  const lanes = runs.map(({ first, end }): [number, number] => [first, end]);
  const { engineFingerprint } = members[0]!.facts;
  const facts = { firstStep, members: ids, lanes, engineFingerprint };
  await journal.append({ kind: 'generation-formed', epoch, generation: number, ...facts });
  const { sources, proveState } = send(init, generation);

  const broken = (error: TrainerError, culprits: readonly WorkerHandle[] = []): FormFailure => ({
    kind: 'broken',
    error,
    culprits,
    generation,
  });
  const areMembers = new Set(handles);
  const waiting = new Set(handles);
  const digests = new Map<WorkerHandle, string | undefined>();
  const deadlineMs = clock.monotonicMs() + config.cluster.stepTimeoutMs;
  while (waiting.size > 0) {
    const waitingFor = `waiting for links and state of ${listNames([...waiting].map(({ workerId }) => workerId))}`;
    if (server.events.size === 0) explain(waitingFor);
    const leftMs = deadlineMs - clock.monotonicMs();
    const event = leftMs > 0 ? await server.events.next(leftMs, signal) : undefined;
    if (event === undefined) {
      for (const worker of waiting)
        worker.giveUp('WORKER_LOST', `not formed within ${config.cluster.stepTimeoutMs} ms`);
      return broken(new TrainerError('WORKER_LOST', `generation ${number}: late in ${waitingFor}`), [...waiting]);
    }
    if (!areMembers.has(event.worker)) {
      roster.take(event);
      continue;
    }
    if (event.kind === 'joined') continue;
    if (event.kind === 'lost') {
      roster.take(event);
      return broken(event.error, [event.worker]);
    }
    const { message } = event;
    if (!('generation' in message) || message.generation !== number || message.epoch !== epoch) {
      roster.take(event);
      continue;
    }
    if (message.kind === 'formed') {
      waiting.delete(event.worker);
      digests.set(event.worker, message.paramDigest);
    } else if (message.kind === 'failed') {
      const cause = fromErrorRecord(message.error);
      const error = new TrainerError(cause.code, `${event.worker.toString()}: ${cause.message}`, { cause });
      if (error.reaction !== 'transport' && error.reaction !== 'protocol') return broken(error, [event.worker]);
      const peers = (message.peers ?? []).flatMap((rank) => handles[rank]?.workerId ?? []);
      return { ...broken(error), links: [{ workerId: event.worker.workerId, peers }] };
    }
  }
  if (proveState) {
    const expected = sources[0]!.kind === 'start' ? init.checkpoint?.paramDigest : undefined;
    const proofs = handles.map((worker, rank) => ({ rank, digest: digests.get(worker) ?? 'nothing' }));
    const outliers = findOutliers(init, proofs, expected);
    if (outliers !== undefined) {
      const workers = outliers.ranks.map((rank) => handles[rank]!);
      await roster.distrust(workers.map(({ workerId }) => workerId));
      return { ...broken(outliers.error), outliers: workers };
    }
  }
  for (const worker of handles) roster.place(worker, step);
  const fields = { epoch, generation: number, worldSize: members.length, members: ids, firstStep, reason };
  log.info(fields, 'generation formed');
  return { kind: 'formed', generation };
}

/**
 * Members whose state is not that of the others. Undefined: there are none.
 * @throws STATE_DIVERGED where nobody can tell which is right
 */
function findOutliers(
  { members, step, log }: FormInit,
  proofs: readonly DigestReport[],
  expected: string | undefined,
): { readonly error: TrainerError; readonly ranks: readonly number[] } | undefined {
  const verdict = judgeProofs(proofs, expected);
  if (verdict.kind === 'agree') return undefined;
  const error = new TrainerError('STATE_DIVERGED', `parameters at step ${step}: ${verdict.reason}`);
  if (verdict.kind === 'no-majority') throw error;
  for (const rank of verdict.ranks) {
    const { workerId } = members[rank]!.worker;
    log.error({ step, rank, workerId, expected: verdict.majority, found: proofs[rank]!.digest }, 'rank differs');
  }
  return { error, ranks: verdict.ranks };
}

function send(
  { members, step, isState, checkpoint }: FormInit,
  { epoch, generation, members: handles, runs }: Generation,
): { sources: readonly StateSource[]; proveState: boolean } {
  const held = members.map(({ heldStep }) => heldStep);
  const plan = planStateSources(held, isState, checkpoint?.path ?? null);
  const { sources, receivers, proveState } = plan;
  const views = handles.map(({ workerId, host, dataUrl }, rank) => {
    const { first, end } = runs[rank]!;
    return { workerId, rank, host, dataUrl, lanes: { first, end } };
  });
  sendEach<'form', 'rank' | 'state' | 'receivers'>(
    handles,
    { kind: 'form', epoch, generation, members: views, firstStep: step + 1, proveState },
    handles.map((_, rank) => ({ rank, state: sources[rank]!, receivers: [...receivers[rank]!] })),
  );
  return { sources, proveState };
}
