/** A small checkpoint for tests: tensors, their plan, and a valid folder made with the format's own functions. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile } from '../atomic-file.ts';
import { RandomStream } from '../random.ts';
import { float32Tensor, writeSafetensors } from '../safetensors.ts';
import { checkpointName, MANIFEST_FILE, RUN_FILE } from './layout.ts';
import { encodeManifest, type FileEntry } from './manifest.ts';
import { parameterDigest } from './parameter-digest.ts';
import type { RunRecord } from './run-record.ts';
import { planCheckpoint, tensorBytes, type ShardPlan, type TensorSpec } from './shard-plan.ts';

export const PARAMETERS: readonly TensorSpec[] = [
  { name: 'shared.weight', shape: [16, 4] },
  { name: 'encoder.block.0.layer.0.SelfAttention.q.weight', shape: [8, 4] },
  { name: 'encoder.final_layer_norm.weight', shape: [4] },
  { name: 'lm_head.weight', shape: [16, 4] },
];
export const SLOTS: readonly TensorSpec[] = [
  { name: 'shared.weight/v', shape: [16, 4] },
  { name: 'encoder.final_layer_norm.weight/v', shape: [4] },
  { name: 'lm_head.weight/vr', shape: [16] },
];
/** Two model shards and two optimizer shards. */
export const PLAN: ShardPlan = planCheckpoint({ parameters: PARAMETERS, optimizerSlots: SLOTS, maxShardBytes: 300 });

/** Values in shared memory, a function of seed and name order. */
export function randomTensors(specs: readonly TensorSpec[], seed: number): Map<string, Float32Array> {
  const stream = new RandomStream([seed]);
  return new Map(
    specs.map((spec) => {
      const values = new Float32Array(new SharedArrayBuffer(tensorBytes(spec)));
      for (let i = 0; i < values.length; i++) values[i] = stream.nextNormal();
      return [spec.name, values];
    }),
  );
}

export function runRecord(step: number, parameters: ReadonlyMap<string, Float32Array>): RunRecord {
  return {
    exmixVersion: '0.1.0',
    step,
    cursor: { window: step, row: 3, credits: [0.5, -0.5] },
    seeds: { data: 7 },
    config: { name: 'tiny' },
    configHash: 'c0ffee',
    mixtureHash: 'abcd',
    engineFingerprint: 'scripted 1',
    epoch: 1,
    generation: 2,
    worldSize: 3,
    paramDigest: parameterDigest(parameters),
    savedAt: '2026-11-23T05:05:48.000Z',
  };
}

/** Writes the shard files of PLAN. @returns their manifest entries */
export async function writeShardFiles(folder: string, seed: number, plan: ShardPlan = PLAN): Promise<FileEntry[]> {
  const tensors = new Map([...randomTensors(PARAMETERS, seed), ...randomTensors(SLOTS, seed + 1)]);
  const entries: FileEntry[] = [];
  for (const shard of plan) {
    const path = join(folder, shard.file);
    await writeSafetensors(
      path,
      shard.tensors.map(({ name, shape }) => float32Tensor(name, shape, tensors.get(name)!)),
    );
    entries.push({ file: shard.file, ...(await hashFile(path)) });
  }
  return entries;
}

/** Writes a valid checkpoint `step-<n>`; its values are a function of the step. @param facts replace those in run.json */
export async function writeFixtureCheckpoint(
  checkpointsFolder: string,
  step: number,
  facts: Partial<RunRecord> = {},
): Promise<string> {
  const path = join(checkpointsFolder, checkpointName(step));
  await mkdir(path, { recursive: true });
  const files = await writeShardFiles(path, step);
  const run = { ...runRecord(step, randomTensors(PARAMETERS, step)), ...facts };
  const texts = { [RUN_FILE]: run, 'config.json': { model_type: 't5' } };
  for (const [file, content] of Object.entries(texts)) {
    await writeFile(join(path, file), JSON.stringify(content));
    files.push({ file, ...(await hashFile(join(path, file))) });
  }
  await writeFile(join(path, MANIFEST_FILE), encodeManifest({ step, files }));
  return path;
}
