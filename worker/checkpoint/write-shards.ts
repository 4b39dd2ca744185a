/**
 * Writes this worker's part of a checkpoint in a thread of its own, from shared memory, while training continues.
 */
import { shardsOfRank, type ShardPlan } from '../../shared/checkpoint/shard-plan.ts';
import { abortedError, throwIfAborted } from '../../shared/abort.ts';
import { assertInvariant, fromErrorRecord } from '../../shared/errors.ts';
import { Thread } from '../../shared/thread/thread.ts';
import type { WriteOutcome, WriteTask, WrittenShards } from './shard-writer.ts';

const MODULE = 'worker/checkpoint/shard-writer.ts';

export interface WriteShardsInit {
  /** Where the coordinator collects the checkpoint; exists already. */
  readonly folder: string;
  readonly rank: number;
  readonly worldSize: number;
  readonly shardPlan: ShardPlan;
  /** In SharedArrayBuffers; nobody may write to them until this resolves. */
  readonly tensors: {
    readonly parameters: ReadonlyMap<string, Float32Array>;
    readonly optimizerSlots: ReadonlyMap<string, Float32Array>;
  };
  readonly signal: AbortSignal;
}

/**
 * Writes and fsyncs the shards of `rank`. What an aborted or failed call leaves is in `folder` only, which is never
 * published then.
 * @returns the files written and the digest of all parameters
 * @throws DISK_FULL, PATH_UNUSABLE, ABORTED; INTERNAL for a tensor that is missing or not in shared memory
 */
export async function writeCheckpointShards(init: WriteShardsInit): Promise<WrittenShards> {
  const { folder, rank, worldSize, shardPlan, tensors, signal } = init;
  const doing = `writing checkpoint shards to ${folder}`;
  throwIfAborted(signal, doing);
  const shards = shardsOfRank(shardPlan, rank, worldSize);
  const slotNames = shards
    .filter(({ kind }) => kind === 'optimizer')
    .flatMap((shard) => shard.tensors.map((t) => t.name));
  const task: WriteTask = {
    folder,
    shards,
    parameters: tensors.parameters,
    optimizerSlots: new Map(slotNames.map((name) => [name, sharedTensor(tensors.optimizerSlots, name)])),
  };
  for (const name of tensors.parameters.keys()) sharedTensor(tensors.parameters, name);

  return new Promise((resolve, reject) => {
    const thread = new Thread<never, WriteOutcome>({
      module: MODULE,
      data: task,
      onMessage: (message) => {
        signal.removeEventListener('abort', stop);
        if (message.kind === 'written') resolve(message.written);
        else reject(fromErrorRecord(message.error));
      },
      onFailed: reject,
    });
    function stop(): void {
      void thread.stop().then(() => reject(abortedError(doing, signal)));
    }
    signal.addEventListener('abort', stop, { once: true });
  });
}

function sharedTensor(tensors: ReadonlyMap<string, Float32Array>, name: string): Float32Array {
  const values = tensors.get(name);
  assertInvariant(values !== undefined, `no tensor ${name} to save`);
  assertInvariant(values.buffer instanceof SharedArrayBuffer, `tensor ${name} to save is not in shared memory`);
  return values;
}
