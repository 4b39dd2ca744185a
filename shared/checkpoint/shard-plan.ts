/**
 * Assigns the tensors of a checkpoint to files: a pure function of names, shapes and the largest file size. It does not depend on the
 * number of workers, so the tensor files have the same bytes for any world size. `shardsOfRank` assigns the files to writers.
 */
import { assertInvariant } from '../errors.ts';
import { modelFile, optimizerFile } from './layout.ts';

/** One float32 tensor of a checkpoint. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
}

export type ShardKind = 'model' | 'optimizer';

export interface CheckpointShard {
  readonly kind: ShardKind;
  readonly file: string;
  /** In name order. */
  readonly tensors: readonly TensorSpec[];
  /** Of the tensors, without the header of the file. */
  readonly bytes: number;
}

/** Model shards first, then optimizer shards, each in name order of their tensors. */
export type ShardPlan = readonly CheckpointShard[];

export interface ShardPlanInit {
  readonly parameters: readonly TensorSpec[];
  readonly optimizerSlots: readonly TensorSpec[];
  /** Most bytes of a file, unless a single tensor is larger. */
  readonly maxShardBytes: number;
}

/** The files of a checkpoint. @throws INTERNAL for two tensors of one name or a bound below 1 byte */
export function planCheckpoint(init: ShardPlanInit): ShardPlan {
  const { parameters, optimizerSlots, maxShardBytes } = init;
  const model = planShards(parameters, maxShardBytes);
  const optimizer = planShards(optimizerSlots, maxShardBytes);
  return [
    ...model.map((tensors, i) => describeShard('model', modelFile(i, model.length), tensors)),
    ...optimizer.map((tensors, i) => describeShard('optimizer', optimizerFile(i, optimizer.length), tensors)),
  ];
}

/** Tensors in name order; a shard ends before the tensor that would not fit. @throws INTERNAL as `planCheckpoint` */
export function planShards(tensors: readonly TensorSpec[], maxShardBytes: number): TensorSpec[][] {
  assertInvariant(maxShardBytes >= 1, `maxShardBytes ${maxShardBytes} is below 1`);
  const ordered = [...tensors].sort((a, b) => compareNames(a.name, b.name));
  const shards: TensorSpec[][] = [];
  let filledBytes = 0;
  let previous: string | undefined;
  for (const tensor of ordered) {
    assertInvariant(tensor.name !== previous, `two tensors named ${tensor.name} in a checkpoint`);
    previous = tensor.name;
    const bytes = tensorBytes(tensor);
    const open = shards.at(-1);
    if (open === undefined || filledBytes + bytes > maxShardBytes) {
      shards.push([tensor]);
      filledBytes = bytes;
    } else {
      open.push(tensor);
      filledBytes += bytes;
    }
  }
  return shards;
}

/** The shards that a rank writes: number i of the plan belongs to rank i mod worldSize. */
export function shardsOfRank(plan: ShardPlan, rank: number, worldSize: number): CheckpointShard[] {
  assertInvariant(rank >= 0 && rank < worldSize, `rank ${rank} is not below the world size ${worldSize}`);
  return plan.filter((_, i) => i % worldSize === rank);
}

/** Order of names in plans and digests: by UTF-16 code unit, the same on every machine. */
export function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Of a float32 tensor. */
export function tensorBytes({ shape }: TensorSpec): number {
  return shape.reduce((product, size) => product * size, Float32Array.BYTES_PER_ELEMENT);
}

function describeShard(kind: ShardKind, file: string, tensors: readonly TensorSpec[]): CheckpointShard {
  return { kind, file, tensors, bytes: tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0) };
}
