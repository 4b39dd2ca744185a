/** Ends an epoch: the run has finished, was interrupted, has failed, or must be opened again at an earlier step. */
import { fromErrorRecord, toTrainerError, TrainerError, type ErrorCode } from '../shared/errors.ts';
import { listNames } from '../shared/list-names.ts';
import type { Runtime } from '../shared/runtime.ts';
import type { CheckpointRef, Saver } from './checkpoint/saver.ts';
import { endGeneration } from './generation/end-generation.ts';
import type { StepParts } from './generation/training.ts';
import type { Journal } from './journal/journal.ts';
import type { ControlServer } from './membership/control-server.ts';
import type { Generation } from './membership/generation.ts';
import type { ReadyWorker, Roster } from './membership/roster.ts';
import type { ResumePoint } from './resume/resume-point.ts';
import type { RunSummaryView } from './run-summary.ts';

export type EpochEnding = { readonly kind: 'ended'; readonly summary: RunSummaryView } | Rewind;

/** No worker holds the state of the committed step: the run must be opened again at an earlier one. */
export interface Rewind {
  readonly kind: 'rewind';
  readonly reason: string;
  readonly resumeAt: ResumePoint;
  /** Set where ranks differed and no state can be trusted. */
  readonly divergence?: TrainerError;
}

export interface RewindState {
  /** Steps whose state the ready workers hold. */
  readonly held: readonly (number | null)[];
  /** Step of the newest checkpoint; 0: the seed. */
  readonly loadableStep: number;
  readonly divergence: TrainerError | undefined;
}

/** Chooses the furthest step that a worker holds, if it is further than the newest checkpoint. Pure. */
export function planRewind(reason: string, { held, loadableStep, divergence }: RewindState): Rewind {
  // After a divergence the held states may be wrong themselves, or follow from a wrong one.
  const resumeAt: ResumePoint = { kind: 'newest-checkpoint' };
  if (divergence !== undefined)
    return { kind: 'rewind', reason: `${reason}: ${divergence.message}`, resumeAt, divergence };
  const heldStep = Math.max(-1, ...held.map((step) => step ?? -1));
  if (heldStep <= loadableStep) return { kind: 'rewind', reason, resumeAt };
  return { kind: 'rewind', reason, resumeAt: { kind: 'held-step', step: heldStep } };
}

export interface EndOfRun {
  readonly epoch: number;
  /** Steps of the whole run. */
  readonly lastStep: number;
  readonly journal: Pick<Journal, 'append'>;
  readonly membership: { readonly server: ControlServer; readonly roster: Roster };
  readonly steps: Pick<StepParts, 'committer' | 'settlement'>;
  readonly saver: Saver;
  readonly runtime: Runtime;
}

/** Where a run is: fields of its summary. */
export type RunProgress = Pick<RunSummaryView, 'step' | 'savedStep' | 'stoppedEarly'>;

/** Whether no step is left to train, and the last one is committed and saved. Pure. @param lastStep of the config */
export function isFinished({ step, savedStep, stoppedEarly }: RunProgress, lastStep: number): boolean {
  return (step >= lastStep || stoppedEarly !== undefined) && savedStep === step;
}

/** Time for workers to dial a run that had finished before it was started again, ms. */
const TELL_MS = 5_000;

/** Waits for workers that were started with a run that has finished already, so that they learn of its end. */
export async function awaitWorkers(init: EndOfRun, count: number, signal: AbortSignal): Promise<void> {
  const { membership, runtime } = init;
  const { server } = membership;
  const deadlineMs = runtime.clock.monotonicMs() + TELL_MS;
  while (server.workers().length < count) {
    const leftMs = deadlineMs - runtime.clock.monotonicMs();
    if (leftMs <= 0 || (await server.events.next(leftMs, signal)) === undefined) return;
  }
}

/**
 * @param stopRequest why the run was to end before its last step; undefined where nobody asked for it
 * @param summary of the session, for the log: `exmix status` shows it later
 */
export async function finishRun(
  init: EndOfRun,
  stopRequest: string | undefined,
  summary: RunSummaryView,
): Promise<void> {
  const { epoch, lastStep, journal, membership, steps, saver, runtime } = init;
  const { step } = steps.committer;
  const { newest, savedStep } = saver;
  const stopReason = isFinished(summary, lastStep) ? undefined : stopRequest;
  if (stopReason === undefined) await journal.append({ kind: 'run-finished', epoch, step });
  else await journal.append({ kind: 'run-interrupted', epoch, step, reason: stopReason });
  const checkpoint = { paramDigest: newest?.paramDigest ?? null, checkpoint: newest?.path ?? null };
  const fields = { step, savedStep, ...checkpoint, interrupted: stopReason };
  runtime.log.info({ epoch, ...summary }, 'run summary');
  runtime.log.info(fields, stopReason === undefined ? 'run finished' : 'run interrupted');
  await membership.server.dismiss(
    stopReason ?? 'the run is finished',
    stopReason === undefined ? 'finished' : savedStep === step ? 'interrupted' : 'failed',
  );
}

export interface Failure {
  readonly error: TrainerError;
  /** The last one, which may be over; undefined where this epoch has formed none. Workers may hold the state of an epoch before. */
  readonly generation: Generation | undefined;
  /** Limit for the survivors to save, ms. */
  readonly saveTimeoutMs: number;
}

/**
 * Logs the failure once, saves the state of the survivors, and dismisses the workers. After RUN_LOCKED another coordinator has the run: then
 * folder and workers are left to it.
 */
export async function failRun(init: EndOfRun, { error, generation, saveTimeoutMs }: Failure): Promise<void> {
  const { epoch, journal, membership, steps, saver, runtime } = init;
  const { log } = runtime;
  const { code, message: reason } = error;
  log.error({ code, reason, step: steps.committer.step }, 'run failed');
  if (code === 'RUN_LOCKED') return;
  const saved = await salvage(init, { error, generation, saveTimeoutMs });
  log.warn({ reason: saved.reason, checkpoint: saved.checkpoint?.path ?? null }, 'survivors asked to save');
  const { step } = steps.committer;
  // A second failure is logged. It neither hides the first one nor keeps the workers waiting.
  await journal
    .append({ kind: 'run-interrupted', epoch, step, reason: `${code}: ${reason}` })
    .catch((second: unknown) => {
      log.error({ reason: toTrainerError(second).message }, 'journal not written');
    });
  await membership.server.dismiss(reason, code === 'ABORTED' && saver.savedStep === step ? 'interrupted' : 'failed');
}

/** Longest time for the survivors to save, ms. */
const SAVE_DEADLINE_MS = 120_000;
/** After these the survivors' parameters cannot be trusted, nothing can be written, or nobody wants to wait. */
const NOT_SALVAGED: readonly ErrorCode[] = [
  'GRADIENT_DIVERGED',
  'STATE_DIVERGED',
  'DISK_FULL',
  'JOURNAL_CORRUPT',
  'INTERNAL',
  'ABORTED',
];

interface Salvage {
  readonly checkpoint?: CheckpointRef | undefined;
  /** One sentence: what was saved, or why nothing was. */
  readonly reason: string;
}

/** Saves what the survivors hold, if it is further than the newest checkpoint. Never throws: a failure to save becomes the reason. */
async function salvage(init: EndOfRun, failure: Failure): Promise<Salvage> {
  const { membership, steps, saver, runtime } = init;
  const { error, generation } = failure;
  const { server, roster } = membership;
  const { committer, settlement } = steps;
  if (NOT_SALVAGED.includes(error.code)) return { reason: `nothing was saved after ${error.code}` };
  try {
    if (generation === undefined) await settlement.settleFurthest();
    else await endGeneration({ error, generation, server, roster, settlement, saver, clock: runtime.clock });
    const { step } = committer;
    if (step === saver.savedStep)
      return { reason: step === 0 ? 'no step was trained' : `step ${step} was saved already` };
    // Workers that dialled again, or held the state before this epoch, are as good as members.
    const holders = roster.ready.filter(
      ({ worker, heldStep }) => committer.isState(heldStep) && worker.generation === undefined,
    );
    if (holders.length === 0) return { reason: `no worker survived with the state of step ${step}` };
    await saveFrom(holders, init, failure).catch((second: unknown) => {
      if (saver.savedStep !== step) throw second;
      runtime.log.error({ reason: toTrainerError(second).message }, 'journal not written');
    });
    const ids = holders.map(({ worker }) => worker.workerId);
    const reason = `step ${step} was saved by ${listNames(ids)}`;
    return { checkpoint: saver.newest, reason };
  } catch (second) {
    return { reason: `saving failed: ${(second as Error).message}` };
  }
}

/** @throws WORKER_LOST when a writer is lost or late, and what Saver.saved throws */
async function saveFrom(
  holders: readonly ReadyWorker[],
  { epoch, membership, steps, saver, runtime }: EndOfRun,
  { generation: last, saveTimeoutMs }: Failure,
): Promise<void> {
  const { step, stateStep, cursor } = steps.committer;
  const writers = holders.map(({ worker }) => worker);
  const { engineFingerprint } = holders[0]!.facts;
  const generation = last ?? { epoch, generation: 0, members: writers, runs: [], engineFingerprint };
  const start = (): Promise<void> => saver.start({ step, cursor, generation }, writers, 'the run ends', stateStep);
  await start();
  const limitMs = Math.min(SAVE_DEADLINE_MS, saveTimeoutMs);
  const deadlineMs = runtime.clock.monotonicMs() + limitMs;
  for (;;) {
    const event = await membership.server.events.next(Math.max(0, deadlineMs - runtime.clock.monotonicMs()));
    if (event === undefined) {
      const late = saver.missing().map(({ workerId }) => workerId);
      throw new TrainerError('WORKER_LOST', `${late.join(', ')} did not write within ${limitMs} ms`);
    }
    const { worker } = event;
    const message = event.kind === 'message' ? event.message : undefined;
    const unwritten =
      event.kind === 'lost'
        ? event.error
        : message?.kind === 'failed' && saver.isUnwritten(worker, message)
          ? fromErrorRecord(message.error)
          : undefined;
    if (unwritten !== undefined) await saver.unwritten(worker, unwritten);
    if (message?.kind === 'saved' && saver.isWriting(worker, message)) {
      const outcome = await saver.saved(worker, message);
      if (outcome?.kind === 'differ') throw outcome.error;
      if (outcome !== undefined) return;
    }
    // The others save again.
    if (saver.writing === undefined) await start();
  }
}
