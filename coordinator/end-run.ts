/** The last records of a run's epoch, in the log and in the journal: it is finished, was interrupted, or has failed. */
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { toTrainerError, TrainerError, type ErrorCode } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { Committer } from './step/committer.ts';
import type { ControlServer } from './membership/control-server.ts';
import type { Generation } from './membership/generation.ts';
import type { Journal } from './journal/journal.ts';
import type { Roster } from './membership/roster.ts';
import type { RunSummaryView } from './run-summary.ts';
import type { Saver } from './checkpoint/saver.ts';
import type { StepSettlement } from './step/step-settlement.ts';
import { endGeneration } from './generation/end-generation.ts';
import type { WorkerHandle } from './membership/worker-handle.ts';

interface EndOfRun {
  readonly epoch: number;
  readonly committer: Committer;
  readonly journal: Pick<Journal, 'append'>;
  readonly server: ControlServer;
  readonly log: Logger;
}

export interface FinishInit extends EndOfRun {
  readonly view: RunSummaryView;
  /** Why it ends before its last step; undefined where it does not. */
  readonly stopReason: string | undefined;
}

export async function finishRun(init: FinishInit): Promise<void> {
  const { view, stopReason: reason, epoch, committer, journal, server, log } = init;
  const { step } = committer;
  const { checkpoint, paramDigest } = view;
  if (reason === undefined) await journal.append({ kind: 'run-finished', epoch, step });
  else await journal.append({ kind: 'run-interrupted', epoch, step, reason });
  const fields = { step, paramDigest, checkpoint: checkpoint ?? null, interrupted: reason };
  log.info(fields, reason === undefined ? 'run finished' : 'run interrupted');
  await server.dismiss(reason ?? 'the run is finished');
}

export interface FailInit extends EndOfRun {
  readonly failure: TrainerError;
  readonly config: RunConfig;
  /** The last one, where there was one; it may be over. */
  readonly generation: Generation | undefined;
  readonly roster: Roster;
  readonly settling: StepSettlement;
  readonly saver: Saver;
  readonly clock: Clock;
  readonly onPublish: (checkpoint: PublishedCheckpoint) => Promise<void>;
}

/**
 * The run ends with a failure: it is told once, what the survivors hold is saved, and everybody leaves. After RUN_LOCKED it goes on without
 * this coordinator, which leaves folder and workers to the other one.
 */
export async function failRun(init: FailInit): Promise<void> {
  const { failure, config, generation, epoch, committer, journal, server, log, onPublish } = init;
  const { code, message: reason } = failure;
  log.error({ code, reason, step: committer.step }, 'run failed');
  if (code === 'RUN_LOCKED') return;
  // A second failure is told, and does not hide the first one nor keep the workers waiting.
  const onUnwritten = (error: unknown): void => {
    log.error({ reason: toTrainerError(error).message }, 'journal not written');
  };
  if (generation !== undefined) {
    const { stepTimeoutMs } = config.cluster;
    const saved = await salvage({ ...init, generation, stepTimeoutMs });
    if (saved.checkpoint !== undefined) await onPublish(saved.checkpoint).catch(onUnwritten);
    log.warn({ reason: saved.reason, checkpoint: saved.checkpoint?.path ?? null }, 'survivors asked to save');
  }
  const { step } = committer;
  await journal.append({ kind: 'run-interrupted', epoch, step, reason: `${code}: ${reason}` }).catch(onUnwritten);
  await server.dismiss(reason);
}

// FOLDED end-run.ts
/** How an epoch ends, and where the run goes on where nobody holds the state of its last step any more. Pure. */

/** The run must be opened again, at an earlier step that somebody holds, or from its newest checkpoint. */
export interface Rewind {
  readonly kind: 'rewind';
  readonly reason: string;
  /** Left out: from the checkpoint. */
  readonly heldStep?: number;
  /** Ranks differed, and no state is left that can be trusted. */
  readonly divergence?: TrainerError;
}

export type EpochEnding = { readonly kind: 'ended'; readonly summary: RunSummaryView } | Rewind;

export interface RewindState {
  /** Updates behind the states that ready workers hold. */
  readonly held: readonly (number | null)[];
  /** Of the newest checkpoint; 0: the seed. */
  readonly loadableStep: number;
  readonly divergence: TrainerError | undefined;
}

/** To the furthest step that somebody holds, where that is further than the newest checkpoint. */
export function planRewind(reason: string, { held, loadableStep, divergence }: RewindState): Rewind {
  // The held states are of no use then: they may be what is wrong, or have followed from it.
  if (divergence !== undefined) return { kind: 'rewind', reason: `${reason}: ${divergence.message}`, divergence };
  const heldStep = Math.max(-1, ...held.map((step) => step ?? -1));
  return { kind: 'rewind', reason, ...(heldStep > loadableStep ? { heldStep } : {}) };
}

// FOLDED end-run.ts
/** After a failure that ends the run: what the survivors hold is saved, if it is further than the last checkpoint. */

/** Longest time for them to write, ms. */
const SAVE_DEADLINE_MS = 120_000;
/** After these the parameters of the survivors are not to be trusted, nothing can be written, or nobody wants to wait. */
const NOT_SALVAGED: readonly ErrorCode[] = [
  'GRADIENT_DIVERGED',
  'STATE_DIVERGED',
  'DISK_FULL',
  'JOURNAL_CORRUPT',
  'INTERNAL',
  'ABORTED',
];

export interface Salvage {
  readonly checkpoint?: PublishedCheckpoint;
  /** One sentence: what was saved, or why nothing. */
  readonly reason: string;
}

export interface SalvageInit {
  readonly failure: TrainerError;
  readonly server: ControlServer;
  /** The last one; it may be over. */
  readonly generation: Generation;
  readonly roster: Roster;
  readonly committer: Committer;
  readonly settling: StepSettlement;
  readonly saver: Saver;
  readonly clock: Clock;
  /** Time for a checkpoint in this run, ms. */
  readonly stepTimeoutMs: number;
}

/** Never throws: a failure to save becomes the reason. */
export async function salvage(init: SalvageInit): Promise<Salvage> {
  const { failure, generation, roster, committer, saver } = init;
  if (NOT_SALVAGED.includes(failure.code)) return { reason: `nothing was saved after ${failure.code}` };
  try {
    await endGeneration({ ...init, error: failure });
    const step = committer.step;
    const holders = roster.ready
      .filter(({ worker, heldStep }) => committer.isState(heldStep) && generation.members.includes(worker))
      .map(({ worker }) => worker);
    if (holders.length === 0) return { reason: `no worker survived with the state of step ${step}` };
    if (step === saver.savedStep) return { reason: `step ${step} was saved already` };
    const checkpoint = await saveFrom(init, holders);
    const reason = `step ${step} was saved by ${holders.length} of ${generation.members.length} workers`;
    return { checkpoint, reason };
  } catch (error) {
    return { reason: `saving failed: ${(error as Error).message}` };
  }
}

/** @throws WORKER_LOST when a writer dies or is late, and what Saver.saved throws */
async function saveFrom(
  { server, generation, committer, saver, clock, stepTimeoutMs }: SalvageInit,
  holders: readonly WorkerHandle[],
): Promise<PublishedCheckpoint> {
  const { step, stateStep, cursor } = committer;
  const point = { step, cursor, generation: generation.generation, worldSize: generation.members.length };
  await saver.start(point, holders, 'the run ends', stateStep);
  const limitMs = Math.min(SAVE_DEADLINE_MS, stepTimeoutMs);
  const deadlineMs = clock.monotonicMs() + limitMs;
  for (;;) {
    const event = await server.events.next(Math.max(0, deadlineMs - clock.monotonicMs()));
    if (event === undefined) {
      const late = saver.missing().map(({ workerId }) => workerId);
      throw new TrainerError('WORKER_LOST', `${late.join(', ')} did not write within ${limitMs} ms`);
    }
    if (event.kind === 'lost' && holders.includes(event.worker)) throw event.error;
    if (event.kind !== 'message' || event.message.kind !== 'saved') continue;
    if (!saver.isWriting(event.worker, event.message)) continue;
    const outcome = await saver.saved(event.worker, event.message);
    if (outcome?.kind === 'differ') throw outcome.error;
    if (outcome !== undefined) return outcome.checkpoint;
  }
}
