/** Forms a generation of ready workers: assigns ranks and lanes, then waits until all members have links and hold the same state. */
import { randomBytes } from 'node:crypto';
import { assignLanes } from '../../shared/assign-lanes.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { fromErrorRecord, TrainerError } from '../../shared/errors.ts';
import { listNames } from '../../shared/list-names.ts';
import type { FailedMessage, StateSource } from '../../shared/protocol/messages.ts';
import type { Runtime } from '../../shared/runtime.ts';
import { SECRET_BYTES } from '../../shared/transport/mutual-proof.ts';
import type { Journal } from '../journal/journal.ts';
import type { ControlServer } from '../membership/control-server.ts';
import type { BreakCause, BrokenGeneration, Generation } from '../membership/generation.ts';
import type { ReadyWorker, Roster } from '../membership/roster.ts';
import type { RunPhase } from '../membership/run-phase.ts';
import { sendEach, type WorkerHandle } from '../membership/worker-handle.ts';
import { judgeProofs, type DigestReport } from '../step/divergence.ts';
import { planStateSources } from './state-sources.ts';

export interface FormInit {
  readonly config: RunConfig;
  readonly plan: GenerationPlan;
  readonly membership: { readonly server: ControlServer; readonly roster: Roster };
  readonly journal: Pick<Journal, 'append'>;
  readonly phase: Pick<RunPhase, 'waitFor'>;
  readonly runtime: Runtime;
}

/** Decided before the first message is sent. */
export interface GenerationPlan {
  readonly epoch: number;
  readonly generation: number;
  /** In rank order; all have the same engine. */
  readonly members: readonly ReadyWorker[];
  /** The committed step: the members are to hold the state after it. */
  readonly step: number;
  /** Whether `heldStep` equals the committed state. True across skipped steps, which change nothing. */
  readonly isState: (heldStep: number) => boolean;
  /** Lanes per second of each member; undefined deals equal numbers of lanes. */
  readonly speeds: readonly number[] | undefined;
  /** Loaded where no member holds the state; undefined: they start from `init`, else from the seed. */
  readonly checkpoint: { readonly path: string; readonly paramDigest: string } | undefined;
}

export type Formed = { readonly kind: 'formed'; readonly generation: Generation } | FormFailure;

/** A member was lost, failed, or was late. */
export interface FormFailure extends BrokenGeneration {
  readonly generation: Generation;
}

/** @throws STATE_DIVERGED where members prove different states and no majority tells which is right; ABORTED */
export async function formGeneration(init: FormInit, signal: AbortSignal): Promise<Formed> {
  const { config, plan, membership, journal, phase, runtime } = init;
  const { epoch, generation: number, members, step } = plan;
  const { server, roster } = membership;
  const { clock, log } = runtime;
  const handles = members.map(({ worker }) => worker);
  const ids = handles.map(({ workerId }) => workerId);
  const { runs, reason } = assignLanes(config.training.numLanes, members.length, plan.speeds);
  const { engineFingerprint } = members[0]!.facts;
  const generation: Generation = { epoch, generation: number, members: handles, runs, engineFingerprint };
  const broken = (error: TrainerError, cause: BreakCause): FormFailure => ({
    kind: 'broken',
    error,
    cause,
    generation,
  });

  const lanes = runs.map(({ first, end }): [number, number] => [first, end]);
  const facts = { firstStep: step + 1, members: ids, lanes, engineFingerprint };
  await journal.append({ kind: 'generation-formed', epoch, generation: number, ...facts });
  server.newestGeneration = number;
  const { sources, proveState } = sendForm(plan, generation);

  const waiting = new Set(handles);
  const digests = new Map<WorkerHandle, string | undefined>();
  const deadlineMs = clock.monotonicMs() + config.cluster.stepTimeoutMs;
  while (waiting.size > 0) {
    const waitingFor = `waiting for links and state of ${listNames([...waiting].map(({ workerId }) => workerId))}`;
    if (server.events.size === 0) phase.waitFor(waitingFor);
    const leftMs = deadlineMs - clock.monotonicMs();
    const event = leftMs > 0 ? await server.events.next(leftMs, signal) : undefined;
    if (event === undefined) {
      for (const worker of waiting)
        worker.dropAsHung('WORKER_LOST', `not formed within ${config.cluster.stepTimeoutMs} ms`);
      const error = new TrainerError('WORKER_LOST', `generation ${number}: late in ${waitingFor}`);
      return broken(error, { kind: 'members', culprits: [...waiting] });
    }
    const { worker } = event;
    if (!handles.includes(worker)) {
      roster.handle(event);
      continue;
    }
    if (event.kind === 'joined') continue;
    if (event.kind === 'lost') {
      roster.handle(event);
      return broken(event.error, { kind: 'members', culprits: [worker] });
    }
    const { message } = event;
    if (!('generation' in message) || message.generation !== number || message.epoch !== epoch) roster.handle(event);
    else if (message.kind === 'formed') {
      waiting.delete(worker);
      digests.set(worker, message.paramDigest);
    } else if (message.kind === 'failed') return brokenBy(worker, message);
  }

  if (proveState) {
    const started = plan.checkpoint?.paramDigest ?? config.init?.paramDigest;
    const expected = sources[0]!.kind === 'start' ? started : undefined;
    const proofs = handles.map((worker, rank) => ({ rank, digest: digests.get(worker) ?? 'nothing' }));
    const outliers = findOutliers(proofs, expected);
    if (outliers !== undefined) {
      const workers = outliers.ranks.map((rank) => handles[rank]!);
      await roster.distrust(workers.map(({ workerId }) => workerId));
      return broken(outliers.error, { kind: 'outliers', outliers: workers });
    }
  }
  for (const worker of handles) roster.trustNewState(worker, step);
  const fields = { epoch, generation: number, worldSize: members.length, members: ids, firstStep: step + 1, reason };
  log.info(fields, 'generation formed');
  return { kind: 'formed', generation };

  /** A failed link blames both of its ends; any other failure blames the member. */
  function brokenBy(worker: WorkerHandle, { error: record, peers = [] }: FailedMessage): FormFailure {
    const cause = fromErrorRecord(record);
    const error = new TrainerError(cause.code, `${worker.toString()}: ${cause.message}`, { cause });
    if (error.reaction !== 'transport' && error.reaction !== 'protocol')
      return broken(error, { kind: 'members', culprits: [worker] });
    const peerIds = peers.flatMap((rank) => handles[rank]?.workerId ?? []);
    return broken(error, { kind: 'links', failures: [{ workerId: worker.workerId, peers: peerIds }] });
  }

  /** @returns undefined where all prove the same state @throws STATE_DIVERGED where no majority tells which is right */
  function findOutliers(
    proofs: readonly DigestReport[],
    expected: string | undefined,
  ): { readonly error: TrainerError; readonly ranks: readonly number[] } | undefined {
    const verdict = judgeProofs(proofs, expected);
    if (verdict.kind === 'agree') return undefined;
    const error = new TrainerError('STATE_DIVERGED', `parameters at step ${step}: ${verdict.reason}`);
    if (verdict.kind === 'no-majority') throw error;
    for (const rank of verdict.ranks) {
      const { workerId } = handles[rank]!;
      log.error({ step, rank, workerId, expected: verdict.majority, found: proofs[rank]!.digest }, 'rank differs');
    }
    return { error, ranks: verdict.ranks };
  }
}

/** Sends each member its rank, its lanes, its peers, and where its state comes from. */
function sendForm(
  { members, step, isState, checkpoint }: GenerationPlan,
  { epoch, generation, members: handles, runs }: Generation,
): { sources: readonly StateSource[]; proveState: boolean } {
  const held = members.map(({ heldStep }) => heldStep);
  const { sources, receivers, proveState } = planStateSources(held, isState, checkpoint?.path ?? null);
  const views = handles.map(({ workerId, host, dataUrl }, rank) => {
    const { first, end } = runs[rank]!;
    return { workerId, rank, host, dataUrl, lanes: { first, end } };
  });
  sendEach<'form', 'rank' | 'state' | 'receivers'>(
    handles,
    {
      kind: 'form',
      epoch,
      generation,
      members: views,
      firstStep: step + 1,
      secret: randomBytes(SECRET_BYTES),
      proveState,
    },
    handles.map((_, rank) => ({ rank, state: sources[rank]!, receivers: [...receivers[rank]!] })),
  );
  for (const handle of handles) handle.startWork(generation);
  return { sources, proveState };
}
