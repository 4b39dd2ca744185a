/**
 * A prepared mixture of made-up ids, written directly without sources and tokenizer. For tests of reading and for
 * benchmarks.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { computeSegmentLength } from '../plan/span-corruption.ts';
import {
  createMixtureManifest,
  createTaskManifest,
  MANIFEST_FILE,
  MIXTURE_FILE,
  serializeMixtureManifest,
  serializeTaskManifest,
} from '../prepare/manifest.ts';
import { sha256Of } from '../prepare/prepared-format.ts';
import { ShardWriter } from '../prepare/shard-writer.ts';

const VOCAB_SIZE = 32_128;
const NUM_EXTRA_IDS = 100;
const NO_HASH = '0'.repeat(64);

export interface SyntheticTask {
  readonly name: string;
  readonly kind: 'supervised' | 'denoising';
  readonly numExamples: number;
  /** Supervised: tokens with EOS. */
  readonly inputsLength?: (index: number) => number;
  readonly targetsLength?: (index: number) => number;
}

export interface SyntheticMixtureInit {
  /** Created when needed. */
  readonly folder: string;
  readonly tasks: readonly SyntheticTask[];
  readonly featureLengths: { readonly inputs: number; readonly targets: number };
  readonly shardBytes?: number;
}

/** Id number `at` of an example: below the sentinels, and never EOS. */
function syntheticId(task: number, index: number, at: number): number {
  return 2 + ((Math.imul(Math.imul(index + 1, 0x9e3779b1) ^ (at * 0x85ebca6b + task), 0xc2b2ae35) >>> 17) % 31_000);
}

/** @returns the mixture's hash */
export async function writeSyntheticMixture(init: SyntheticMixtureInit): Promise<string> {
  const { folder, tasks, featureLengths, shardBytes = 16 * 1024 * 1024 } = init;
  const written: Parameters<typeof createMixtureManifest>[0]['tasks'] = [];
  for (const [number, task] of tasks.entries()) {
    const manifest = serializeTaskManifest(await writeTask(number, task, init, shardBytes));
    await writeFile(join(folder, task.name, MANIFEST_FILE), manifest);
    written.push({ name: task.name, kind: task.kind, numExamples: task.numExamples, manifest: sha256Of(manifest) });
  }
  const { text, hash } = serializeMixtureManifest(
    createMixtureManifest({
      name: 'synthetic',
      tokenizer: { hash: NO_HASH, vocabSize: VOCAB_SIZE, numExtraIds: NUM_EXTRA_IDS },
      featureLengths: { ...featureLengths },
      tasks: written,
    }),
  );
  await writeFile(join(folder, MIXTURE_FILE), text);
  return hash;
}

async function writeTask(
  number: number,
  { name, kind, numExamples, inputsLength, targetsLength }: SyntheticTask,
  { folder, featureLengths }: SyntheticMixtureInit,
  shardBytes: number,
): Promise<ReturnType<typeof createTaskManifest>> {
  const isSupervised = kind === 'supervised';
  const segmentLength = isSupervised
    ? 0
    : computeSegmentLength({ inputsLimit: featureLengths.inputs, targetsLimit: featureLengths.targets });
  const taskFolder = join(folder, name, 'unit-00000');
  await mkdir(taskFolder, { recursive: true });
  const writer = new ShardWriter({ folder: taskFolder, tokenBytes: 2, shardBytes, hasIndex: isSupervised });
  let numTokens = 0;
  for (let index = 0; index < numExamples; index++) {
    const inputs = isSupervised ? inputsLength!(index) : segmentLength;
    const length = inputs + (isSupervised ? targetsLength!(index) : 0);
    const tokens = Int32Array.from({ length }, (_, at) => syntheticId(number, index, at));
    if (isSupervised) tokens[inputs - 1] = tokens[length - 1] = 1;
    numTokens += length;
    const writing = writer.add(tokens, inputs);
    if (writing !== undefined) await writing;
  }
  const inUnit = <File extends { readonly file: string }>(entry: File): File => ({
    ...entry,
    file: `unit-00000/${entry.file}`,
  });
  const shards = (await writer.finish()).map(({ numExamples: inShard, tokens, checksums, index }) => ({
    numExamples: inShard,
    tokens: inUnit(tokens),
    checksums: inUnit(checksums),
    ...(index === undefined ? {} : { index: inUnit(index) }),
  }));
  return createTaskManifest({
    name,
    identity: {
      kind,
      source: { format: 'jsonl', quotes: false, files: [] },
      unitBytes: 1,
      preprocessor: {},
      tokenizer: NO_HASH,
      featureLengths: { ...featureLengths },
      shardBytes,
    },
    declared: NO_HASH,
    numUnits: 1,
    tokenType: 'uint16',
    numExamples,
    numTokens,
    segmentLength,
    truncated: { inputs: 0, targets: 0, tokens: 0 },
    tokensIn: isSupervised ? 0 : numTokens,
    droppedTokens: { longDocuments: 0, remainder: 0 },
    numRows: numExamples,
    leftOutRows: 0,
    malformed: { numRows: 0, kinds: [], first: [] },
    shards,
  });
}
