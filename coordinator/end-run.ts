/** The last records of a run's epoch, in the log and in the journal: it is finished, was interrupted, or has failed. */
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { toTrainerError, type TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { Committer } from './committer.ts';
import type { ControlServer } from './control-server.ts';
import type { Generation } from './form-generation.ts';
import type { Journal } from './journal.ts';
import type { Roster } from './roster.ts';
import type { RunSummaryView } from './run-summary.ts';
import { salvage } from './salvage.ts';
import type { Saver } from './saver.ts';
import type { Settling } from './settling.ts';

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
  readonly settling: Settling;
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
