/**
 * The open shards of a prepared task: lengths from memory, tokens by position.
 *
 * Memory: 8 bytes for each example of a supervised task (lengths and position), nothing for a denoising task. Tokens
 * are read when they are requested, in verified blocks (token-blocks.ts).
 */
import { assertInvariant } from '../../shared/errors.ts';
import type { TaskLengths } from '../plan/planner.ts';
import type { TaskSize } from '../plan/rates.ts';
import { corruptedLengths } from '../plan/span-corruption.ts';
import type { TaskManifest } from '../prepare/manifest.ts';
import type { ShardEntry } from '../prepare/prepared-format.ts';
import { corrupt, type PreparedFiles } from './prepared-files.ts';
import type { TokenBlocks, TokenFile } from './token-blocks.ts';

/** The examples of one shard. */
interface Shard {
  readonly file: TokenFile;
  readonly firstExample: number;
  /** Supervised: first token of each example, counted in tokens from the start of the file. */
  readonly starts?: Uint32Array;
}

/** Supervised: a pair of lengths for each example. Denoising: the same lengths after corruption for all segments. */
type Lengths =
  | { readonly kind: 'each'; readonly pairs: Uint16Array }
  | { readonly kind: 'same'; readonly inputs: number; readonly targets: number };

export class PreparedTask implements TaskLengths, TaskSize {
  readonly name: string;
  readonly kind: TaskSize['kind'];
  readonly numExamples: number;
  readonly segmentLength: number;
  readonly #manifest: TaskManifest;
  readonly #shards: readonly Shard[];
  readonly #lengths: Lengths;
  readonly #blocks: TokenBlocks;

  constructor(manifest: TaskManifest, shards: readonly Shard[], lengths: Lengths, blocks: TokenBlocks) {
    this.name = manifest.name;
    this.kind = manifest.identity.kind;
    this.numExamples = manifest.numExamples;
    this.segmentLength = manifest.segmentLength;
    this.#manifest = manifest;
    this.#shards = shards;
    this.#lengths = lengths;
    this.#blocks = blocks;
  }

  /** Tokens of the inputs as the model sees them: with EOS; for denoising, after corruption. */
  inputsLength(index: number): number {
    return this.#lengths.kind === 'same' ? this.#lengths.inputs : this.#lengths.pairs[2 * index]!;
  }

  targetsLength(index: number): number {
    return this.#lengths.kind === 'same' ? this.#lengths.targets : this.#lengths.pairs[2 * index + 1]!;
  }

  /**
   * The stored ids of an example: inputs followed by targets (inputsLength separates them), or the raw segment of a
   * denoising task.
   * @throws INTERNAL for an index that does not exist, SHARD_CORRUPT, PATH_UNUSABLE, the codes of shared/storage,
   * ABORTED
   */
  async readTokens(index: number, signal?: AbortSignal): Promise<Int32Array> {
    assertInvariant(
      Number.isInteger(index) && index >= 0 && index < this.numExamples,
      `example ${index} of task ${this.name} with ${this.numExamples} examples`,
    );
    const shard = this.#shardOf(index);
    const inShard = index - shard.firstExample;
    const { segmentLength, tokenType } = this.#manifest;
    const start = shard.starts?.[inShard] ?? inShard * segmentLength;
    const numTokens = shard.starts === undefined ? segmentLength : this.inputsLength(index) + this.targetsLength(index);
    const tokenBytes = tokenType === 'uint16' ? 2 : 4;
    const bytes = await this.#blocks.read(shard.file, start * tokenBytes, numTokens * tokenBytes, signal);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const tokens = new Int32Array(numTokens);
    for (let i = 0; i < numTokens; i++)
      tokens[i] = tokenBytes === 2 ? view.getUint16(2 * i, true) : view.getInt32(4 * i, true);
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
 * Opens the shards of a task. It reads and verifies every index, and checks the size of token files.
 * @throws SHARD_CORRUPT, PATH_UNUSABLE, the codes of shared/storage, ABORTED
 */
export async function openPreparedTask(
  manifest: TaskManifest,
  files: PreparedFiles,
  blocks: TokenBlocks,
  signal: AbortSignal,
): Promise<PreparedTask> {
  const isSupervised = manifest.identity.kind === 'supervised';
  const place = files.placeOf(manifest.name);
  const numInShards = manifest.shards.reduce((sum, { numExamples }) => sum + numExamples, 0);
  if (numInShards !== manifest.numExamples || numInShards === 0)
    throw corrupt(place, `${manifest.numExamples} examples`, `${numInShards} in the shards`);
  const pairs = new Uint16Array(isSupervised ? 2 * numInShards : 0);
  let numBefore = 0;
  const opening = manifest.shards.map(async (entry): Promise<Shard> => {
    const firstExample = numBefore;
    numBefore += entry.numExamples;
    const file: TokenFile = {
      ...inTask(manifest, entry.tokens),
      checksums: inTask(manifest, entry.checksums),
    };
    await files.checkSize(file.key, file.bytes, signal);
    if (!isSupervised) return { file, firstExample };
    const ownPairs = pairs.subarray(2 * firstExample, 2 * (firstExample + entry.numExamples));
    return { file, firstExample, starts: await loadIndex(entry, manifest, files, ownPairs, signal) };
  });
  const shards = await Promise.all(opening);
  if (isSupervised) return new PreparedTask(manifest, shards, { kind: 'each', pairs }, blocks);
  const { inputsLength, targetsLength } = corruptedLengths(manifest.segmentLength);
  return new PreparedTask(manifest, shards, { kind: 'same', inputs: inputsLength, targets: targetsLength }, blocks);
}

/**
 * Fills `pairs`, and checks that the lengths respect the limits and fill the shard. @returns the first token of each
 * example
 */
async function loadIndex(
  { index, tokens, numExamples }: ShardEntry,
  manifest: TaskManifest,
  files: PreparedFiles,
  pairs: Uint16Array,
  signal: AbortSignal,
): Promise<Uint32Array> {
  if (index === undefined) throw corrupt(files.placeOf(manifest.name), `an index beside ${tokens.file}`, 'none');
  const file = inTask(manifest, index);
  const place = files.placeOf(file.key);
  if (index.bytes !== 4 * numExamples) throw corrupt(place, `${4 * numExamples} B`, `${index.bytes} B`);
  const bytes = await files.readKnown(file, signal);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { inputs, targets } = manifest.identity.featureLengths;
  const starts = new Uint32Array(numExamples);
  let start = 0;
  for (let i = 0; i < numExamples; i++) {
    const inputsLength = view.getUint16(4 * i, true);
    const targetsLength = view.getUint16(4 * i + 2, true);
    if (inputsLength < 1 || inputsLength > inputs || targetsLength < 1 || targetsLength > targets)
      throw corrupt(
        place,
        `lengths of 1 to ${inputs} and 1 to ${targets}`,
        `${inputsLength} and ${targetsLength} at ${i}`,
      );
    pairs[2 * i] = inputsLength;
    pairs[2 * i + 1] = targetsLength;
    starts[i] = start;
    start += inputsLength + targetsLength;
  }
  const numBytes = start * (manifest.tokenType === 'uint16' ? 2 : 4);
  if (numBytes !== tokens.bytes) throw corrupt(place, `lengths that fill ${tokens.bytes} B`, `${numBytes} B`);
  return starts;
}

/** File names in a manifest are relative to the folder of the task. */
function inTask({ name }: TaskManifest, { file, bytes, sha256 }: ShardEntry['tokens']): TokenFile['checksums'] {
  return { key: `${name}/${file}`, bytes, sha256 };
}
