/**
 * Saves one checkpoint at a time, when it is due: asks the members to write their shards, collects their reports, and publishes.
 * The order of messages decides which state is saved: a member saves after the steps dealt to it so far.
 * A member that could not write is left out of later saves, unless no other one is left. The save then falls due again by itself.
 */
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { relative } from 'node:path';
import type { Runtime } from '../../shared/runtime.ts';
import type { Journal } from '../journal/journal.ts';
import type { Generation } from '../membership/generation.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { SavedMessage, FailedMessage } from '../../shared/protocol/messages.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { ShardMissing } from './publish.ts';
import { decideCheckpoint, type ScheduleOptions } from './schedule.ts';
import { judgeDigests } from '../step/divergence.ts';
import { listNames } from '../../shared/list-names.ts';
import type { RunCursor } from '../deal/rate-changes.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';

export interface SaverInit {
  readonly config: Pick<RunConfig, 'checkpoint'>;
  readonly epoch: number;
  readonly checkpoints: CheckpointStore;
  readonly journal: Pick<Journal, 'append' | 'state'>;
  /** Paths in the journal are relative to it. */
  readonly runFolder: string;
  /** Undefined where the run starts from the seed: then there is nothing to save at step 0. */
  readonly newest: CheckpointRef | undefined;
  readonly runtime: Runtime;
}

/** A published checkpoint. */
export interface CheckpointRef {
  readonly step: number;
  readonly path: string;
  readonly paramDigest: string;
}

/** A state to save. */
export interface SavePoint {
  /** Updates applied: the writers are there after the steps dealt so far. */
  readonly step: number;
  readonly cursor: RunCursor;
  readonly generation: Generation;
}

/** The outcome of a checkpoint, once all its writers have answered. */
export type SaveOutcome =
  | { readonly kind: 'published'; readonly checkpoint: CheckpointRef }
  /** The checkpoint was abandoned: more than half of the writers hold the same parameters, the outliers do not. */
  | {
      readonly kind: 'differ';
      readonly outliers: readonly Outlier[];
      readonly majority: string;
      readonly error: TrainerError;
    };

export interface Outlier {
  readonly worker: WorkerHandle;
  readonly digest: string;
}

interface Writing extends SavePoint {
  readonly writingFolder: string;
  readonly startedMs: number;
  readonly writers: readonly WorkerHandle[];
  readonly saved: Map<WorkerHandle, SavedMessage>;
  /** Writers whose shards are not on the disk of the run folder. */
  readonly failed: Map<WorkerHandle, TrainerError>;
}

export class Saver {
  readonly #init: SaverInit;
  readonly #schedule: ScheduleOptions;
  #writing: Writing | undefined;
  /** Answers that came while no generation trained. Bound: one for each writer. */
  readonly #kept = new Map<WorkerHandle, SavedMessage | FailedMessage>();
  readonly #leftOut = new WeakSet<WorkerHandle>();
  #newest: CheckpointRef | undefined;
  #savedAtMs: number;

  constructor(init: SaverInit) {
    this.#init = init;
    const { everySteps, everyMinutes } = init.config.checkpoint;
    this.#schedule = {
      ...(everySteps === undefined ? {} : { everySteps }),
      ...(everyMinutes === undefined ? {} : { everyMs: everyMinutes * 60_000 }),
      atEnd: true,
    };
    this.#newest = init.newest;
    this.#savedAtMs = init.runtime.clock.monotonicMs();
  }

  /** The newest checkpoint. Workers load it where no worker holds the state. */
  get newest(): CheckpointRef | undefined {
    return this.#newest;
  }

  /** Step of the newest checkpoint; 0 where there is none: the seed. */
  get savedStep(): number {
    return this.#newest?.step ?? 0;
  }

  /**
   * Why the state after this step is to be saved; undefined where it is not.
   * @param isEnd no step comes after it @param requestedBy the part of the run that needs a checkpoint of this step
   */
  whyDue(step: number, isEnd: boolean, requestedBy?: string): string | undefined {
    const [savedStep, savedAtMs] = [this.savedStep, this.#savedAtMs];
    const writing = this.#writing === undefined ? {} : { writingStep: this.#writing.step };
    const request = requestedBy === undefined ? {} : { requestedBy };
    const state = { step, isEnd, savedStep, savedAtMs, ...writing, ...request };
    const { save, reason } = decideCheckpoint(this.#init.runtime.clock.monotonicMs(), state, this.#schedule);
    return save ? reason : undefined;
  }

  /** The checkpoint that is being written: its start on the clock, and the workers whose shards are missing. */
  get writing():
    { readonly step: number; readonly sinceMs: number; readonly missing: readonly WorkerHandle[] } | undefined {
    if (this.#writing === undefined) return undefined;
    return { step: this.#writing.step, sinceMs: this.#writing.startedMs, missing: this.missing() };
  }

  /** Members whose shards are still missing. */
  missing(): WorkerHandle[] {
    const { writers = [], saved, failed } = this.#writing ?? {};
    return writers.filter((writer) => saved?.has(writer) !== true && failed?.has(writer) !== true);
  }

  /**
   * Asks the members for their shards; number i of the shards belongs to writer i mod their number.
   * @param members those that are left out do not write
   * @param stateStep states from this step on equal that of the point: the steps between were skipped
   * @throws DISK_FULL, PATH_UNUSABLE
   */
  async start(
    point: SavePoint,
    members: readonly WorkerHandle[],
    reason: string,
    stateStep: number = point.step,
  ): Promise<void> {
    const able = members.filter((member) => !this.#leftOut.has(member));
    const writers = able.length > 0 ? able : members;
    const { step } = point;
    const { generation } = point.generation;
    const { checkpoints, epoch, runtime } = this.#init;
    const { clock, log } = runtime;
    const ids = { epoch, generation, step, stateStep };
    const writingFolder = await checkpoints.begin({ step, epoch, generation });
    const answers = { saved: new Map(), failed: new Map() };
    this.#writing = { ...point, writingFolder, startedMs: clock.monotonicMs(), writers, ...answers };
    for (const [writer, handle] of writers.entries())
      handle.send({ kind: 'save', ...ids, folder: writingFolder, writer, numWriters: writers.length });
    log.debug({ step, reason }, 'checkpoint started');
  }

  /** Whether the worker's answer belongs to the checkpoint under way, and not to an abandoned one. */
  isWriting(worker: WorkerHandle, { step, generation }: SavedMessage): boolean {
    const writing = this.#writing;
    return writing?.step === step && writing.generation.generation === generation && writing.writers.includes(worker);
  }

  /** Whether the worker could not write its shards of the checkpoint under way, which may belong to a generation that has ended. */
  isUnwritten(worker: WorkerHandle, { epoch, generation, unsavedStep }: FailedMessage): boolean {
    const isOfThis = this.#writing?.step === unsavedStep && this.#writing?.generation.generation === generation;
    return isOfThis && epoch === this.#init.epoch && this.missing().includes(worker);
  }

  /** Forgets the checkpoint under way and removes its files. Call it when no worker writes any more. */
  async abandon(reason: string): Promise<void> {
    const writing = this.#writing;
    if (writing === undefined) return;
    this.#writing = undefined;
    this.#init.runtime.log.warn({ step: writing.step, reason }, 'checkpoint abandoned');
    await this.#init.checkpoints.discard(writing.writingFolder);
  }

  /** Keeps the answer of a writer while no generation trains. Ignores answers about another checkpoint. */
  keep(worker: WorkerHandle, message: SavedMessage | FailedMessage): void {
    const isOfThis = message.kind === 'saved' ? this.isWriting(worker, message) : this.isUnwritten(worker, message);
    if (isOfThis) this.#kept.set(worker, message);
  }

  /** Removes and returns the kept answers. */
  drainKept(): (readonly [WorkerHandle, SavedMessage | FailedMessage])[] {
    const kept = [...this.#kept];
    this.#kept.clear();
    return kept;
  }

  /**
   * Receives the report of one writer.
   * @returns the outcome, once all have reported
   * @throws MESSAGE_INVALID, DISK_FULL, STATE_DIVERGED where writers differ without a majority
   */
  async saved(worker: WorkerHandle, message: SavedMessage): Promise<SaveOutcome | undefined> {
    const writing = this.#writing;
    if (writing === undefined || !this.isWriting(worker, message))
      throw new TrainerError(
        'MESSAGE_INVALID',
        `${worker.workerId} saved step ${message.step}, which it was not asked for`,
      );
    writing.saved.set(worker, message);
    return this.#settle(writing);
  }

  /**
   * One writer could not write, or was lost. The others finish; then the save is abandoned, and a later one goes without this writer.
   * @throws its error where no other writer is left; what `saved` throws
   */
  async unwritten(worker: WorkerHandle, error: TrainerError): Promise<void> {
    if (this.#writing === undefined || !this.missing().includes(worker)) return;
    this.#writing.failed.set(worker, error);
    await this.#settle(this.#writing);
  }

  /** Publishes or abandons, once all writers have answered: then none of them writes any more. */
  async #settle(writing: Writing): Promise<SaveOutcome | undefined> {
    const { writers, failed } = writing;
    if (this.missing().length > 0) return undefined;
    if (failed.size === 0) {
      const differ = await this.#differ(writing);
      if (differ !== undefined) return differ;
      try {
        return { kind: 'published', checkpoint: await this.#publish(writing) };
      } catch (error) {
        const writer = writers.find(({ workerId }) => error instanceof ShardMissing && error.workerId === workerId);
        if (writer === undefined) throw error;
        failed.set(writer, toTrainerError(error));
      }
    }
    await this.#abandonFailed(writing);
    return undefined;
  }

  /** The worker does not write while another one can. */
  leaveOut(worker: WorkerHandle, { code, message: reason }: TrainerError): void {
    this.#leftOut.add(worker);
    const { workerId, host } = worker;
    this.#init.runtime.log.warn({ workerId, host, code, reason }, 'worker left out of saving');
  }

  /** @throws the first failure where no writer is left */
  async #abandonFailed({ writers, failed }: Writing): Promise<void> {
    for (const [worker, error] of failed) this.leaveOut(worker, error);
    const names = listNames([...failed.keys()].map(({ workerId }) => workerId));
    await this.abandon(`${names} could not write; the others save again`);
    if (writers.every((writer) => this.#leftOut.has(writer))) throw [...failed.values()][0]!;
  }

  /** Undefined where all writers hold the same. @throws STATE_DIVERGED */
  async #differ({ step, writers, saved }: Writing): Promise<SaveOutcome | undefined> {
    const digests = writers.map((writer, rank) => ({ rank, digest: saved.get(writer)!.paramDigest }));
    const verdict = judgeDigests(digests);
    if (verdict.kind === 'agree') return undefined;
    const held = writers.map(({ workerId }, i) => `${workerId} holds ${digests[i]!.digest}`);
    const error = new TrainerError('STATE_DIVERGED', `step ${step}: ${listNames(held)}; not published`);
    if (verdict.kind === 'no-majority') throw error;
    await this.abandon('its writers hold different parameters');
    const outliers = verdict.ranks.map((rank) => ({ worker: writers[rank]!, digest: digests[rank]!.digest }));
    return { kind: 'differ', outliers, majority: verdict.majority, error };
  }

  async #publish({
    step,
    cursor,
    startedMs,
    writers,
    saved,
    generation,
    writingFolder,
  }: Writing): Promise<CheckpointRef> {
    const { checkpoints, journal, runFolder, runtime } = this.#init;
    const { clock, log } = runtime;
    const { paramDigest } = saved.get(writers[0]!)!;
    const workerFiles = writers.map((writer) => {
      const { files, paramDigest: digest } = saved.get(writer)!;
      return { workerId: writer.workerId, files, paramDigest: digest };
    });
    const { generation: number, members, engineFingerprint } = generation;
    const point = { step, cursor, generation: number, worldSize: members.length, engineFingerprint };
    const published = await checkpoints.publish({ ...point, writingFolder, workerFiles, paramDigest });
    this.#writing = undefined;
    this.#newest = published;
    this.#savedAtMs = clock.monotonicMs();
    const ms = Math.round(clock.monotonicMs() - startedMs);
    log.info({ ...published, ms }, 'checkpoint published');
    const path = relative(runFolder, published.path);
    await journal.append({ kind: 'checkpoint-published', step, path, paramDigest });
    for (const removed of await checkpoints.prune(step, journal.state.validations))
      log.info({ ...removed }, 'checkpoint removed');
    return published;
  }
}
