/**
 * The thread that writes this worker's shards of one checkpoint, and ends.
 * Its data is a WriteTask; it answers with one WriteOutcome.
 */
import { join } from 'node:path';
import { hashFile, syncFolder } from '../../shared/atomic-file.ts';
import type { FileEntry } from '../../shared/checkpoint/manifest.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import type { CheckpointShard } from '../../shared/checkpoint/shard-plan.ts';
import { assertInvariant, toErrorRecord, type ErrorRecord } from '../../shared/errors.ts';
import { float32Tensor, writeSafetensors } from '../../shared/safetensors.ts';
import { threadPort } from '../../shared/thread/thread.ts';

export interface WriteTask {
  readonly folder: string;
  readonly shards: readonly CheckpointShard[];
  /** All parameters, also those of other ranks' shards: their digest is reported. */
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizerSlots: ReadonlyMap<string, Float32Array>;
}

export interface WrittenShards {
  readonly files: readonly FileEntry[];
  readonly paramDigest: string;
}

export type WriteOutcome =
  | { readonly kind: 'written'; readonly written: WrittenShards }
  | { readonly kind: 'failed'; readonly error: ErrorRecord };

async function writeShards(task: WriteTask): Promise<WrittenShards> {
  const files: FileEntry[] = [];
  for (const { kind, file, tensors } of task.shards) {
    const source = kind === 'model' ? task.parameters : task.optimizerSlots;
    const values = tensors.map(({ name, shape }) => {
      const found = source.get(name);
      assertInvariant(found !== undefined, `no tensor ${name} for ${file}`);
      return float32Tensor(name, shape, found);
    });
    const path = join(task.folder, file);
    await writeSafetensors(path, values);
    files.push({ file, ...(await hashFile(path)) });
  }
  await syncFolder(task.folder);
  return { files, paramDigest: parameterDigest(task.parameters) };
}

const port = threadPort<never, WriteOutcome>();
try {
  port.post({ kind: 'written', written: await writeShards(port.data as WriteTask) });
} catch (error) {
  port.post({ kind: 'failed', error: toErrorRecord(error) });
}
port.close();
