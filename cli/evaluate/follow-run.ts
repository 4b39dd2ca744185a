/**
 * Evaluates each checkpoint of a run while it trains (`exmix evaluate --follow`): the run's journal says what is published, a pin keeps the
 * checkpoint that is read. It ends when the run has finished and all its checkpoints are evaluated or skipped.
 *
 * The run does not know of it. The journal is read on from where it was, when the file system tells that it changed.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { JournalReader } from '../../coordinator/journal/journal.ts';
import { runPaths } from '../../coordinator/run-folder/run-folder.ts';
import { acquireRunLock, type RunLock } from '../../coordinator/run-folder/run-lock.ts';
import { statIfThere, toStorageError } from '../../shared/atomic-file.ts';
import { checkpointName, CONFIG_FILE, MANIFEST_FILE } from '../../shared/checkpoint/layout.ts';
import { pinCheckpoint } from '../../shared/checkpoint/pin.ts';
import type { Clock } from '../../shared/clock.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { FileWatch } from './file-watch.ts';
import { decideNext, describeSteps, type FollowedCheckpoint } from './next-checkpoint.ts';

export const ALREADY_EVALUATED = 'already evaluated';
const REMOVED = 'removed before its evaluation began';

export type FollowOutcome =
  | { readonly kind: 'evaluated' }
  /** Not evaluated now. @example ALREADY_EVALUATED */
  | { readonly kind: 'skipped'; readonly reason: string };

export interface FollowRunInit {
  /** May be missing: the run has not begun. */
  readonly runFolder: string;
  /** Made once the run has begun, and locked: one process follows into it. */
  readonly resultsFolder: string;
  /** Whether there are results of a checkpoint that is gone. */
  readonly hasResults: (checkpoint: FollowedCheckpoint) => Promise<boolean>;
  /** @param folder of the pinned checkpoint @throws CHECKPOINT_CORRUPT for a damaged one, which is skipped; any other failure ends the work */
  readonly evaluate: (folder: string, checkpoint: FollowedCheckpoint, signal: AbortSignal) => Promise<FollowOutcome>;
  readonly clock: Clock;
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * @returns when the run has finished and its last checkpoint is evaluated
 * @throws PATH_UNUSABLE where the run has finished and its last checkpoint is gone; CHECKPOINT_CORRUPT where that one is damaged; RUN_LOCKED,
 *   JOURNAL_CORRUPT, ABORTED, what `evaluate` throws
 */
export async function followRun(init: FollowRunInit): Promise<void> {
  const { journal, checkpoints } = runPaths(init.runFolder);
  await expectNoModel(init.runFolder);
  const watch = new FileWatch(journal, init.clock);
  let lock: RunLock | undefined;
  try {
    const follower = new Follower(init, new JournalReader(journal), checkpoints);
    for (;;) {
      await watch.changed(AbortSignal.any([init.signal, ...(lock === undefined ? [] : [lock.lost])])).catch(toStopped);
      if ((await statIfThere(journal)) === undefined) follower.say(`${init.runFolder}: waiting for the run to begin`);
      else {
        lock ??= await lockResults(init);
        if (await follower.workUntilIdle(AbortSignal.any([init.signal, lock.lost]))) return;
      }
    }
  } finally {
    watch.close();
    await lock?.release();
  }
}

function toStopped(cause: unknown): never {
  throw new TrainerError('ABORTED', 'following was stopped; the same command goes on', { cause });
}

/** @throws PATH_UNUSABLE for a checkpoint or another model: it publishes nothing */
async function expectNoModel(folder: string): Promise<void> {
  for (const file of [MANIFEST_FILE, CONFIG_FILE])
    if ((await statIfThere(join(folder, file))) !== undefined)
      throw new TrainerError(
        'PATH_UNUSABLE',
        `${folder}: expected a run folder to follow, found a model (${file}); evaluate it without --follow`,
      );
}

async function lockResults({ resultsFolder, clock, signal, onLine }: FollowRunInit): Promise<RunLock> {
  await mkdir(resultsFolder, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', resultsFolder);
  });
  return acquireRunLock(resultsFolder, { clock, signal, onWaiting: ({ reason }) => onLine(reason) });
}

class Follower {
  readonly #init: FollowRunInit;
  readonly #journal: JournalReader;
  readonly #checkpoints: string;
  readonly #outcomes = new Map<string, FollowOutcome>();
  /** By step, in the order of publication: a step that is published again is the newest. */
  readonly #published = new Map<number, FollowedCheckpoint>();
  #said: string | undefined;

  constructor(init: FollowRunInit, journal: JournalReader, checkpoints: string) {
    this.#init = init;
    this.#journal = journal;
    this.#checkpoints = checkpoints;
  }

  /** Says a sentence, unless it is the one that was said last. */
  say(sentence: string): void {
    if (sentence === this.#said) return;
    this.#said = sentence;
    this.#init.onLine(sentence);
  }

  /** @returns whether the run has finished and nothing is left */
  async workUntilIdle(signal: AbortSignal): Promise<boolean> {
    for (;;) {
      await this.#journal.read({
        signal,
        onRecord: (record) => {
          if (record.kind === 'checkpoint-published') this.#add(record);
        },
      });
      await this.#skipRemoved();
      const { ending, step } = this.#journal.state;
      const act = decideNext({ published: [...this.#published.values()], ending, step }, (one) =>
        this.#outcomes.has(keyOf(one)),
      );
      this.say(act.reason);
      if (act.kind !== 'evaluate') {
        if (act.kind === 'end') this.#expectLast();
        return act.kind === 'end';
      }
      await this.#evaluate(act.checkpoint, signal);
    }
  }

  #add({ step, paramDigest }: FollowedCheckpoint): void {
    this.#published.delete(step);
    this.#published.set(step, { step, paramDigest });
  }

  async #skipRemoved(): Promise<void> {
    const known: FollowedCheckpoint[] = [];
    const removed: FollowedCheckpoint[] = [];
    for (const checkpoint of this.#published.values())
      if (!this.#outcomes.has(keyOf(checkpoint)) && (await statIfThere(this.#folderOf(checkpoint))) === undefined)
        ((await this.#init.hasResults(checkpoint)) ? known : removed).push(checkpoint);
    this.#skip(known, ALREADY_EVALUATED);
    this.#skip(removed, REMOVED);
  }

  async #evaluate(checkpoint: FollowedCheckpoint, signal: AbortSignal): Promise<void> {
    await removeAbandoned(this.#checkpoints).catch(() => undefined); // a pin of another user may stay
    const pin = await pinCheckpoint(this.#folderOf(checkpoint));
    if (pin === undefined) {
      this.#skip([checkpoint], REMOVED);
      return;
    }
    try {
      const outcome = await this.#init.evaluate(pin.folder, checkpoint, signal);
      if (outcome.kind === 'skipped') this.#skip([checkpoint], outcome.reason);
      else this.#outcomes.set(keyOf(checkpoint), outcome);
    } catch (thrown) {
      const error = toTrainerError(thrown);
      if (error.code !== 'CHECKPOINT_CORRUPT') throw error;
      this.#skip([checkpoint], `damaged: ${error.message}`);
    } finally {
      await pin.release();
    }
  }

  #skip(checkpoints: readonly FollowedCheckpoint[], reason: string): void {
    if (checkpoints.length === 0) return;
    for (const checkpoint of checkpoints) this.#outcomes.set(keyOf(checkpoint), { kind: 'skipped', reason });
    this.say(`${describeSteps(checkpoints)} skipped: ${reason}`);
  }

  /** @throws PATH_UNUSABLE, CHECKPOINT_CORRUPT */
  #expectLast(): void {
    const last = [...this.#published.values()].at(-1);
    const outcome = last === undefined ? undefined : this.#outcomes.get(keyOf(last));
    if (outcome === undefined)
      throw new TrainerError('PATH_UNUSABLE', `${this.#init.runFolder}: the run has finished without a checkpoint`);
    if (outcome.kind === 'evaluated' || outcome.reason === ALREADY_EVALUATED) return;
    throw new TrainerError(
      outcome.reason === REMOVED ? 'PATH_UNUSABLE' : 'CHECKPOINT_CORRUPT',
      `${this.#folderOf(last!)}: the last checkpoint of the run was not evaluated: ${outcome.reason}`,
    );
  }

  #folderOf({ step }: FollowedCheckpoint): string {
    return join(this.#checkpoints, checkpointName(step));
  }
}

function keyOf({ step, paramDigest }: FollowedCheckpoint): string {
  return `${step} ${paramDigest}`;
}
