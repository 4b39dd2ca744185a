/** Saves the engine's state: a snapshot at the step boundary, then a thread writes the shards while training continues. */
import { planCheckpoint } from '../../shared/checkpoint/shard-plan.ts';
import { abortable } from '../../shared/abort.ts';
import type { Engine } from '../engine/engine.ts';
import type { WrittenShards } from './shard-writer.ts';
import { TensorSnapshot } from './snapshot.ts';
import { writeCheckpointShards } from './write-shards.ts';

export interface SaveRequest {
  readonly folder: string;
  /** This worker's index among the writers. */
  readonly writer: number;
  readonly numWriters: number;
  readonly maxShardBytes: number;
}

export class CheckpointWriter {
  readonly #engine: Engine;
  /** As large as the state; allocated at the first save and used again. */
  #snapshot: { readonly parameters: TensorSnapshot; readonly optimizer: TensorSnapshot } | undefined;
  #writing: Promise<unknown> = Promise.resolve();
  #calledOff = new AbortController();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Resolves once the snapshot is complete: the engine may continue. One save at a time: a second one waits for the first.
   * @param signal ends the wait for an earlier save
   * @returns what was written, when it is on disk; rejects with DISK_FULL, PATH_UNUSABLE, ABORTED
   * @throws ABORTED
   */
  async save(
    { folder, writer, numWriters, maxShardBytes }: SaveRequest,
    signal: AbortSignal,
  ): Promise<{ readonly written: Promise<WrittenShards> }> {
    const { parameters, optimizerSlots } = this.#engine;
    await abortable(this.#writing, signal, `saving to ${folder}`);
    this.#calledOff = new AbortController();
    this.#snapshot ??= { parameters: new TensorSnapshot(parameters), optimizer: new TensorSnapshot(optimizerSlots) };
    const held = { parameters: this.#snapshot.parameters.tensors, optimizerSlots: this.#snapshot.optimizer.tensors };
    await this.#engine.readBack(held.parameters, held.optimizerSlots);
    const written = writeCheckpointShards({
      folder,
      rank: writer,
      worldSize: numWriters,
      shardPlan: planCheckpoint({ parameters, optimizerSlots, maxShardBytes }),
      tensors: held,
      signal: this.#calledOff.signal,
    });
    this.#writing = written.catch(() => undefined); // the caller has the promise
    return { written };
  }

  /** Resolves when nothing is being written. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  /** Aborts a write under way; resolves when its thread has ended. */
  async callOff(): Promise<void> {
    this.#calledOff.abort();
    await this.#writing;
  }
}
