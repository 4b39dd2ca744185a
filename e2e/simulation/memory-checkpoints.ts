/**
 * Checkpoints on a disk that all processes of the simulation share: workers write shards to a folder, the coordinator publishes it.
 * Readers do not see a folder before it is published; a published one is checked when it is read.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { checkpointName, writingName } from '../../shared/checkpoint/layout.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { planCheckpoint, shardsOfRank, type ShardPlan, type TensorSpec } from '../../shared/checkpoint/shard-plan.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { CheckpointStore } from '../../coordinator/checkpoint/checkpoint-store.ts';
import type { PublishedCheckpoint, WrittenCheckpoint } from '../../coordinator/checkpoint/publish.ts';
import type { WrittenShards } from '../../worker/checkpoint/shard-writer.ts';
import type { MemoryDisk } from './memory-disk.ts';
import type { VirtualProcess } from './virtual-process.ts';

/** Exists only in names. */
const CHECKPOINTS_FOLDER = '/simulated/run/checkpoints';
const MAX_SHARD_BYTES = 1024;
const KEEP_LAST = 2;

type Tensors = ReadonlyMap<string, Float32Array>;

export interface SavedState {
  readonly parameters: Tensors;
  readonly optimizer: Tensors;
}

/** Argument of `publish`. */
export type ToPublish = WrittenCheckpoint & { readonly engineFingerprint: string };

export interface SavedCheckpoint extends SavedState {
  readonly path: string;
  readonly run: Omit<ToPublish, 'writingFolder' | 'workerFiles'>;
}

export interface ShardsToWrite extends SavedState {
  readonly folder: string;
  /** Index of this worker among the writers. */
  readonly writer: number;
  readonly numWriters: number;
}

interface Folder {
  readonly files: Map<string, { readonly tensors: Tensors; readonly sha256: string }>;
  run?: SavedCheckpoint['run'];
}

export class MemoryCheckpoints {
  readonly #disk: MemoryDisk;
  readonly #plan: ShardPlan;
  readonly #folders = new Map<string, Folder>();

  /** @param specs all tensors of a checkpoint; an engine has both properties */
  constructor(
    disk: MemoryDisk,
    specs: { readonly parameters: readonly TensorSpec[]; readonly optimizerSlots: readonly TensorSpec[] },
  ) {
    this.#disk = disk;
    const { parameters, optimizerSlots } = specs;
    this.#plan = planCheckpoint({ parameters, optimizerSlots, maxShardBytes: MAX_SHARD_BYTES });
  }

  /** Like coordinator/checkpoint/publish.ts: removes a leftover folder of the same name. */
  begin(at: { readonly step: number; readonly epoch: number; readonly generation: number }): Promise<string> {
    const path = `${CHECKPOINTS_FOLDER}/${writingName(at.step, at.epoch, at.generation)}`;
    this.#folders.set(path, { files: new Map() });
    return Promise.resolve(path);
  }

  discard(writingFolder: string): Promise<void> {
    this.#folders.delete(writingFolder);
    return Promise.resolve();
  }

  /** Removes all but the newest two. */
  prune(): Promise<readonly object[]> {
    for (const { path } of this.published().slice(0, -KEEP_LAST)) this.#folders.delete(path);
    return Promise.resolve([]);
  }

  /** The store of one coordinator. */
  storeOf(process: VirtualProcess): CheckpointStore {
    return {
      begin: (at) => this.begin(at),
      discard: (folder) => this.discard(folder),
      publish: (written) => this.publish(process, written),
      prune: () => this.prune(),
    };
  }

  /**
   * Writes the shards of one writer from a copy of the tensors at the time of the call.
   * @throws PATH_UNUSABLE if the folder was published or removed meanwhile
   */
  async writeShards(process: VirtualProcess, written: ShardsToWrite): Promise<WrittenShards> {
    const { folder, writer, numWriters, parameters, optimizer } = written;
    const shards = shardsOfRank(this.#plan, writer, numWriters).map(({ kind, file, tensors, bytes }) => {
      const source = kind === 'model' ? parameters : optimizer;
      const copies = new Map(tensors.map(({ name }) => [name, source.get(name)!.slice()]));
      return { file, bytes, tensors: copies, sha256: parameterDigest(copies) };
    });
    const paramDigest = parameterDigest(parameters);
    for (const { file, tensors, sha256 } of shards) {
      if (!this.#folders.has(folder)) throw new TrainerError('PATH_UNUSABLE', `cannot write ${folder}/${file}: gone`);
      await this.#disk.write(process, file, () => this.#folders.get(folder)?.files.set(file, { tensors, sha256 }));
    }
    return { files: shards.map(({ file, bytes, sha256 }) => ({ file, bytes, sha256 })), paramDigest };
  }

  /**
   * Like coordinator/checkpoint/checkpoint-store.ts: moves a folder to its final name at once, if all shards are there as reported.
   * @throws CHECKPOINT_MISMATCH if the step has another checkpoint, INTERNAL if a shard is missing or differs from its report
   */
  async publish(process: VirtualProcess, written: ToPublish): Promise<PublishedCheckpoint> {
    const { writingFolder, workerFiles, ...run } = written;
    const finalFolder = `${CHECKPOINTS_FOLDER}/${checkpointName(run.step)}`;
    const folder = this.#folders.get(writingFolder);
    const reported = new Map(workerFiles.flatMap(({ files }) => files.map((entry) => [entry.file, entry] as const)));
    assertInvariant(reported.size === this.#plan.length, `${writingFolder}: every shard of the plan is reported once`);
    for (const { file } of this.#plan)
      assertInvariant(
        folder?.files.get(file)?.sha256 === reported.get(file)?.sha256,
        `${writingFolder}/${file} is there, as it was reported`,
      );
    const known = this.#folders.get(finalFolder)?.run;
    if (known !== undefined && known.paramDigest !== run.paramDigest)
      throw new TrainerError(
        'CHECKPOINT_MISMATCH',
        `${finalFolder}: expected parameters ${run.paramDigest}, found ${known.paramDigest}`,
      );
    await this.#disk.write(process, basename(finalFolder), () => {
      this.#folders.delete(writingFolder);
      this.#folders.set(finalFolder, { files: folder!.files, run });
    });
    const bytes = [...reported.values()].reduce((sum, entry) => sum + entry.bytes, 0);
    return { path: finalFolder, step: run.step, bytes, paramDigest: run.paramDigest };
  }

  /** Published checkpoints by rising step. */
  published(): SavedCheckpoint[] {
    return [...this.#folders]
      .flatMap(([path, { run }]) => (run === undefined ? [] : [this.read(path)]))
      .sort((a, b) => a.run.step - b.run.step);
  }

  /** @throws CHECKPOINT_CORRUPT if it is not published, or its parameters do not match its digest */
  read(path: string): SavedCheckpoint {
    const { run, files } = this.#folders.get(path) ?? {};
    if (run === undefined || files === undefined)
      throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: expected a published checkpoint, found none`);
    const tensorsOf = (kind: 'model' | 'optimizer'): Tensors =>
      new Map(this.#plan.flatMap((shard) => (shard.kind === kind ? [...(files.get(shard.file)?.tensors ?? [])] : [])));
    const state = { parameters: tensorsOf('model'), optimizer: tensorsOf('optimizer') };
    if (parameterDigest(state.parameters) !== run.paramDigest)
      throw new TrainerError('CHECKPOINT_CORRUPT', `${path}: the parameters differ from the published digest`);
    return { path, run, ...state };
  }
}

/** Digest of parameters and optimizer slots. */
export function stateDigest({ parameters, optimizer }: SavedState): string {
  return createHash('sha256').update(parameterDigest(parameters)).update(parameterDigest(optimizer)).digest('hex');
}
