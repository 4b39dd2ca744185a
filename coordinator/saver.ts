/**
 * One checkpoint at a time: asks the members to write their shards, collects what they wrote, publishes, and prunes old ones.
 * Which state is saved follows from the order of messages: a member saves after the steps dealt to it so far.
 */
import { join } from 'node:path';
import { TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { Clock } from '../shared/clock.ts';
import type { WorkerMessage } from '../shared/protocol/messages.ts';
import type { WorkerHandle } from './control-server.ts';

export type SavedMessage = Extract<WorkerMessage, { kind: 'saved' }>;

export interface PublishedCheckpoint {
  readonly step: number;
  readonly path: string;
  readonly bytes: number;
  readonly paramDigest: string;
}

/** What the writers of one checkpoint have delivered. */
export interface WrittenShards {
  readonly step: number;
  readonly writingFolder: string;
  readonly finalFolder: string;
  readonly files: SavedMessage['files'];
  readonly paramDigest: string;
  readonly worldSize: number;
  readonly generation: number;
}

export interface SaverInit {
  readonly checkpointsFolder: string;
  readonly epoch: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Makes the folder that the members write into. */
  readonly begin: (writingFolder: string) => Promise<void>;
  /** Adds what only the coordinator knows, makes the folder whole and visible. @returns bytes of all files */
  readonly publish: (written: WrittenShards) => Promise<{ bytes: number }>;
}

interface Writing {
  readonly step: number;
  readonly generation: number;
  readonly writingFolder: string;
  readonly startedMs: number;
  readonly writers: readonly WorkerHandle[];
  readonly saved: Map<WorkerHandle, SavedMessage>;
}

export class Saver {
  readonly #init: SaverInit;
  #writing: Writing | undefined;

  constructor(init: SaverInit) {
    this.#init = init;
  }

  /** Step of the checkpoint that is being written. */
  get writingStep(): number | undefined {
    return this.#writing?.step;
  }

  /** Members whose shards are still missing. */
  missing(): WorkerHandle[] {
    return this.#writing?.writers.filter((writer) => !this.#writing?.saved.has(writer)) ?? [];
  }

  /**
   * @param step what the writers will be at after the steps dealt so far
   * @throws DISK_FULL, PATH_UNUSABLE
   */
  async start(step: number, generation: number, writers: readonly WorkerHandle[], reason: string): Promise<void> {
    const { checkpointsFolder, epoch, clock, log, begin } = this.#init;
    const writingFolder = join(checkpointsFolder, `.writing-step-${step}`);
    this.#writing = { step, generation, writingFolder, startedMs: clock.monotonicMs(), writers, saved: new Map() };
    await begin(writingFolder);
    for (const [writer, handle] of writers.entries())
      handle.send({ kind: 'save', epoch, generation, folder: writingFolder, writer, numWriters: writers.length });
    log.debug({ step, reason }, 'checkpoint started');
  }

  /** Forgets the checkpoint under way; its folder has no manifest and is removed at the next start. */
  abandon(): void {
    this.#writing = undefined;
  }

  /**
   * Takes what one member wrote.
   * @returns the checkpoint once all have written and it is published
   * @throws MESSAGE_INVALID, STATE_DIVERGED, DISK_FULL
   */
  async saved(worker: WorkerHandle, message: SavedMessage): Promise<PublishedCheckpoint | undefined> {
    const writing = this.#writing;
    if (
      writing?.step !== message.step ||
      writing.generation !== message.generation ||
      !writing.writers.includes(worker)
    )
      throw new TrainerError(
        'MESSAGE_INVALID',
        `${worker.workerId} saved step ${message.step}, which nobody asked it for`,
      );
    for (const [other, { paramDigest }] of writing.saved)
      if (paramDigest !== message.paramDigest)
        throw new TrainerError(
          'STATE_DIVERGED',
          `step ${message.step}: ${other.workerId} holds parameters ${paramDigest}, ${worker.workerId} holds ${message.paramDigest}; not published`,
        );
    writing.saved.set(worker, message);
    if (writing.saved.size < writing.writers.length) return undefined;
    const { step, generation, writingFolder } = writing;
    const { paramDigest } = message;
    const finalFolder = join(this.#init.checkpointsFolder, `step-${step}`);
    const files = [...writing.saved.values()].flatMap((entry) => entry.files);
    const worldSize = writing.writers.length;
    const { bytes } = await this.#init.publish({
      step,
      generation,
      writingFolder,
      finalFolder,
      files,
      paramDigest,
      worldSize,
    });
    this.#writing = undefined;
    const ms = Math.round(this.#init.clock.monotonicMs() - writing.startedMs);
    this.#init.log.info({ step, path: finalFolder, bytes, ms, paramDigest }, 'checkpoint published');
    return { step, path: finalFolder, bytes, paramDigest };
  }
}
