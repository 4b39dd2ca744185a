/**
 * The shards of one prepared task, open for reading: lengths from memory, tokens by position.
 *
 * In memory: 8 bytes an example of a supervised task (lengths and place), nothing for a denoising one. Tokens are read from the
 * file by position when they are asked for; the page cache of the system is the cache.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile, toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { TaskLengths } from '../plan/planner.ts';
import type { TaskSize } from '../plan/rates.ts';
import { corruptedLengths } from '../plan/span-corruption.ts';
import type { ShardEntry, TaskManifest } from '../prepare/manifest.ts';
import { sizeOf, type ShardFiles } from './shard-files.ts';

/** Where the examples of one shard are. */
interface Shard {
  readonly path: string;
  readonly firstExample: number;
  /** Supervised: first token of each example, in tokens from the start of the file. */
  readonly starts?: Uint32Array;
}

/** Supervised: a pair of lengths for each example. Denoising: what corruption makes of every segment. */
type Lengths =
  | { readonly kind: 'each'; readonly pairs: Uint16Array }
  | { readonly kind: 'same'; readonly inputs: number; readonly targets: number };

export class PreparedTask implements TaskLengths, TaskSize {
  readonly name: string;
  readonly kind: TaskSize['kind'];
  readonly numExamples: number;
  readonly #manifest: TaskManifest;
  readonly #shards: readonly Shard[];
  readonly #lengths: Lengths;
  readonly #files: ShardFiles;

  constructor(manifest: TaskManifest, shards: readonly Shard[], lengths: Lengths, files: ShardFiles) {
    this.name = manifest.name;
    this.kind = manifest.identity.kind;
    this.numExamples = manifest.numExamples;
    this.#manifest = manifest;
    this.#shards = shards;
    this.#lengths = lengths;
    this.#files = files;
  }

  /** Tokens of the inputs as the model sees them: with EOS; for denoising, after corruption. */
  inputsLength(index: number): number {
    return this.#lengths.kind === 'same' ? this.#lengths.inputs : this.#lengths.pairs[2 * index]!;
  }

  targetsLength(index: number): number {
    return this.#lengths.kind === 'same' ? this.#lengths.targets : this.#lengths.pairs[2 * index + 1]!;
  }

  /**
   * The stored ids of an example: inputs followed by targets (inputsLength says where they begin), or the raw segment of a denoising
   * task. @throws INTERNAL for an index that does not exist, PATH_UNUSABLE, SHARD_CORRUPT
   */
  readTokens(index: number): Int32Array {
    assertInvariant(
      Number.isInteger(index) && index >= 0 && index < this.numExamples,
      `task ${this.name} has ${this.numExamples} examples, asked for number ${index}`,
    );
    const shard = this.#shardOf(index);
    const inShard = index - shard.firstExample;
    const { segmentLength, tokenType } = this.#manifest;
    const start = shard.starts?.[inShard] ?? inShard * segmentLength;
    const numTokens = shard.starts === undefined ? segmentLength : this.inputsLength(index) + this.targetsLength(index);
    const tokenBytes = tokenType === 'uint16' ? 2 : 4;
    const bytes = this.#files.read(shard.path, start * tokenBytes, numTokens * tokenBytes);
    const tokens = new Int32Array(numTokens);
    for (let i = 0; i < numTokens; i++)
      tokens[i] = tokenBytes === 2 ? bytes.readUInt16LE(2 * i) : bytes.readInt32LE(4 * i);
    return tokens;
  }

  #shardOf(index: number): Shard {
    let low = 0;
    let high = this.#shards.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#shards[middle]!.firstExample <= index) low = middle;
      else high = middle - 1;
    }
    return this.#shards[low]!;
  }
}

/**
 * Opens the shards of a task.
 * @param verify also compares the SHA-256 of every file; sizes and lengths are checked always
 * @throws SHARD_CORRUPT, PATH_UNUSABLE
 */
export async function openPreparedTask(
  folder: string,
  manifest: TaskManifest,
  files: ShardFiles,
  verify: boolean,
): Promise<PreparedTask> {
  const isSupervised = manifest.identity.kind === 'supervised';
  const pairs = new Uint16Array(isSupervised ? 2 * manifest.numExamples : 0);
  const shards: Shard[] = [];
  let firstExample = 0;
  for (const entry of manifest.shards) {
    const path = join(folder, entry.tokens.file);
    await checkFile(path, entry.tokens, verify);
    const starts = isSupervised
      ? await loadIndex(folder, entry, manifest, pairs.subarray(2 * firstExample))
      : undefined;
    shards.push({ path, firstExample, ...(starts === undefined ? {} : { starts }) });
    firstExample += entry.numExamples;
  }
  if (firstExample !== manifest.numExamples || firstExample === 0)
    throw corrupt(folder, `${manifest.numExamples} examples`, `${firstExample} in the shards`);
  if (isSupervised) return new PreparedTask(manifest, shards, { kind: 'each', pairs }, files);
  const { inputsLength, targetsLength } = corruptedLengths(manifest.segmentLength);
  return new PreparedTask(manifest, shards, { kind: 'same', inputs: inputsLength, targets: targetsLength }, files);
}

/** Fills `pairs` and checks that the lengths keep the limits and fill the shard. @returns the first token of each example */
async function loadIndex(
  folder: string,
  { index, tokens, numExamples }: ShardEntry,
  { identity, tokenType }: TaskManifest,
  pairs: Uint16Array,
): Promise<Uint32Array> {
  if (index === undefined) throw corrupt(folder, `an index beside ${tokens.file}`, 'none');
  const path = join(folder, index.file);
  await checkFile(path, index, true);
  const bytes = await readFile(path).catch((error: unknown) => {
    throw toStorageError(error, 'read', path);
  });
  if (bytes.length !== 4 * numExamples) throw corrupt(path, `${4 * numExamples} B`, `${bytes.length} B`);
  const { inputs, targets } = identity.featureLengths;
  const starts = new Uint32Array(numExamples);
  let start = 0;
  for (let i = 0; i < numExamples; i++) {
    const inputsLength = bytes.readUInt16LE(4 * i);
    const targetsLength = bytes.readUInt16LE(4 * i + 2);
    if (inputsLength < 1 || inputsLength > inputs || targetsLength < 1 || targetsLength > targets)
      throw corrupt(
        path,
        `lengths of 1 to ${inputs} and 1 to ${targets}`,
        `${inputsLength} and ${targetsLength} at ${i}`,
      );
    pairs[2 * i] = inputsLength;
    pairs[2 * i + 1] = targetsLength;
    starts[i] = start;
    start += inputsLength + targetsLength;
  }
  const numBytes = start * (tokenType === 'uint16' ? 2 : 4);
  if (numBytes !== tokens.bytes) throw corrupt(path, `lengths that fill ${tokens.bytes} B`, `${numBytes} B`);
  return starts;
}

async function checkFile(path: string, expected: ShardEntry['tokens'], verify: boolean): Promise<void> {
  const size = await sizeOf(path);
  if (size !== expected.bytes) throw corrupt(path, `${expected.bytes} B`, `${size} B`);
  if (!verify) return;
  const found = await hashFile(path);
  if (found.sha256 !== expected.sha256) throw corrupt(path, `SHA-256 ${expected.sha256}`, found.sha256);
}

function corrupt(where: string, expected: string, found: string): TrainerError {
  return new TrainerError(
    'SHARD_CORRUPT',
    `${where}: expected ${expected}, found ${found}; run "exmix prepare" again: only what is damaged is made again`,
  );
}
