/**
 * One checkpoint at a time, when it is due: asks the members to write their shards, collects what they wrote, and publishes.
 * Which state is saved follows from the order of messages: a member saves after the steps dealt to it so far.
 */
import { fromErrorRecord, TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { SavedMessage, FailedMessage } from '../../shared/protocol/messages.ts';
import type { PublishedCheckpoint } from './publish.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { decideCheckpoint, type ScheduleOptions } from './schedule.ts';
import { judgeDigests } from '../step/divergence.ts';
import { listNames } from '../../shared/list-names.ts';
import type { RunCursor } from '../deal/rate-changes.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';

export interface SaverInit {
  readonly config: Pick<RunConfig, 'checkpoint'>;
  readonly epoch: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly checkpoints: Pick<CheckpointStore, 'begin' | 'discard' | 'publish'>;
  readonly engineFingerprint: () => string;
  /** Step of the newest checkpoint; 0 where the run starts from the seed and there is nothing to save. */
  readonly savedStep: number;
}

/** A state to save. */
export interface SavePoint {
  /** Updates applied: what the writers will be at after the steps dealt so far. */
  readonly step: number;
  readonly cursor: RunCursor;
  readonly generation: number;
  readonly worldSize: number;
}

/** What came of a checkpoint when all its writers have answered. */
export type SaveOutcome =
  | { readonly kind: 'published'; readonly checkpoint: PublishedCheckpoint }
  /** It was abandoned: more than half of the writers hold the same parameters, these do not. */
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
}

export class Saver {
  readonly #init: SaverInit;
  readonly #schedule: ScheduleOptions;
  #writing: Writing | undefined;
  /** One message a writer at most. */
  readonly #kept = new Map<WorkerHandle, SavedMessage | FailedMessage>();
  #savedStep: number;
  #savedAtMs: number;

  constructor(init: SaverInit) {
    this.#init = init;
    const { everySteps, everyMinutes } = init.config.checkpoint;
    this.#schedule = {
      ...(everySteps === undefined ? {} : { everySteps }),
      ...(everyMinutes === undefined ? {} : { everyMs: everyMinutes * 60_000 }),
      atEnd: true,
    };
    this.#savedStep = init.savedStep;
    this.#savedAtMs = init.clock.monotonicMs();
  }

  /** Step of the newest checkpoint. */
  get savedStep(): number {
    return this.#savedStep;
  }

  /** Why the state after this step is to be saved; undefined where it is not. @param isEnd no step comes after it */
  whyDue(step: number, isEnd: boolean): string | undefined {
    const [savedStep, savedAtMs] = [this.#savedStep, this.#savedAtMs];
    const writing = this.#writing === undefined ? {} : { writingStep: this.#writing.step };
    const state = { step, isEnd, savedStep, savedAtMs, ...writing };
    const { save, reason } = decideCheckpoint(this.#init.clock.monotonicMs(), state, this.#schedule);
    return save ? reason : undefined;
  }

  /** The checkpoint that is being written: since when (ms of the clock), and whose shards are missing. */
  get writing():
    { readonly step: number; readonly sinceMs: number; readonly missing: readonly WorkerHandle[] } | undefined {
    if (this.#writing === undefined) return undefined;
    return { step: this.#writing.step, sinceMs: this.#writing.startedMs, missing: this.missing() };
  }

  /** Members whose shards are still missing. */
  missing(): WorkerHandle[] {
    return this.#writing?.writers.filter((writer) => !this.#writing?.saved.has(writer)) ?? [];
  }

  /**
   * Asks the writers for their shards; number i of the shards belongs to writer i mod their number.
   * @param stateStep a state from this step on is that of the point: those between were skipped
   * @throws DISK_FULL, PATH_UNUSABLE
   */
  async start(
    point: SavePoint,
    writers: readonly WorkerHandle[],
    reason: string,
    stateStep: number = point.step,
  ): Promise<void> {
    const { step, generation } = point;
    const { checkpoints, epoch, clock, log } = this.#init;
    const ids = { epoch, generation, step, stateStep };
    const writingFolder = await checkpoints.begin({ step, epoch, generation });
    this.#writing = { ...point, writingFolder, startedMs: clock.monotonicMs(), writers, saved: new Map() };
    for (const [writer, handle] of writers.entries())
      handle.send({ kind: 'save', ...ids, folder: writingFolder, writer, numWriters: writers.length });
    log.debug({ step, reason }, 'checkpoint started');
  }

  /** Whether what a worker has written belongs to the checkpoint under way, and not to one that was abandoned. */
  isWriting(worker: WorkerHandle, { step, generation }: SavedMessage): boolean {
    const writing = this.#writing;
    return writing?.step === step && writing.generation === generation && writing.writers.includes(worker);
  }

  /**
   * Whether a worker could not write its shards of the checkpoint under way, which may be of a generation that is over. That links have
   * ended is no such failure.
   */
  isUnwritten(worker: WorkerHandle, { epoch, generation, error }: FailedMessage): boolean {
    const { reaction } = fromErrorRecord(error);
    const isOfLinks = reaction === 'transport' || reaction === 'protocol';
    const isItsTurn = this.#writing?.generation === generation && this.missing().includes(worker);
    return isItsTurn && epoch === this.#init.epoch && !isOfLinks;
  }

  /** Forgets the checkpoint under way and removes what was written of it. Call it when nobody writes any more. */
  async abandon(reason: string): Promise<void> {
    const writing = this.#writing;
    if (writing === undefined) return;
    this.#writing = undefined;
    this.#init.log.warn({ step: writing.step, reason }, 'checkpoint abandoned');
    await this.#init.checkpoints.discard(writing.writingFolder);
  }

  /** What one member said of its shards while no generation was at work. Nothing where it is of another checkpoint. */
  keep(worker: WorkerHandle, message: SavedMessage | FailedMessage): void {
    const isOfThis = message.kind === 'saved' ? this.isWriting(worker, message) : this.isUnwritten(worker, message);
    if (isOfThis) this.#kept.set(worker, message);
  }

  /** What was kept, to be taken now. */
  takeKept(): (readonly [WorkerHandle, SavedMessage | FailedMessage])[] {
    const kept = [...this.#kept];
    this.#kept.clear();
    return kept;
  }

  /**
   * Takes what one member wrote.
   * @returns what came of the checkpoint once all have written
   * @throws MESSAGE_INVALID, DISK_FULL, STATE_DIVERGED where writers differ and nobody can tell which is right
   */
  async saved(worker: WorkerHandle, message: SavedMessage): Promise<SaveOutcome | undefined> {
    const writing = this.#writing;
    if (writing === undefined || !this.isWriting(worker, message))
      throw new TrainerError(
        'MESSAGE_INVALID',
        `${worker.workerId} saved step ${message.step}, which nobody asked it for`,
      );
    writing.saved.set(worker, message);
    if (writing.saved.size < writing.writers.length) return undefined;
    return (await this.#differ(writing)) ?? { kind: 'published', checkpoint: await this.#publish(writing) };
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

  async #publish({ startedMs, writers, saved, ...point }: Writing): Promise<PublishedCheckpoint> {
    const { paramDigest } = saved.get(writers[0]!)!;
    const workerFiles = writers.map((writer) => {
      const { files, paramDigest: digest } = saved.get(writer)!;
      return { workerId: writer.workerId, files, paramDigest: digest };
    });
    const engineFingerprint = this.#init.engineFingerprint();
    const published = await this.#init.checkpoints.publish({ ...point, workerFiles, paramDigest, engineFingerprint });
    this.#writing = undefined;
    this.#savedStep = published.step;
    this.#savedAtMs = this.#init.clock.monotonicMs();
    const ms = Math.round(this.#init.clock.monotonicMs() - startedMs);
    this.#init.log.info({ ...published, ms }, 'checkpoint published');
    return published;
  }
}
