/**
 * All segmentations of the training words with a vocabulary: expected piece counts (forward-backward) and best paths
 * (Viterbi).
 *
 * One trie over the seed pieces serves the whole training. A pruned piece has score NaN and is skipped. Sums have a
 * fixed order in float64, so equal words give equal bits.
 */
import type { ByteTrie } from '../byte-trie.ts';
import { characterBytes } from '../normalizer.ts';
import { type TrainingWords, UNKNOWN_BYTE } from './word-counts.ts';

const UNKNOWN_PENALTY = 10;
const UNKNOWN = -1;

/** log(e^x + e^y) */
function logAdd(x: number, y: number): number {
  const larger = Math.max(x, y);
  const smaller = Math.min(x, y);
  return larger - smaller > 50 ? larger : larger + Math.log1p(Math.exp(smaller - larger));
}

export class WordLattice {
  readonly #trie: ByteTrie;
  readonly #scores: Float64Array;
  #unknownScore = 0;
  // The pieces in the current word, by start, then by length.
  #numEdges = 0;
  #starts = new Int32Array(1024);
  #ends = new Int32Array(1024);
  #ids = new Int32Array(1024);
  #forward = new Float64Array(256);
  #backward = new Float64Array(256);
  #bestEdge = new Int32Array(256);

  /** @param scores of the keys of the trie; NaN if pruned. After changing them, the caller calls scoresChanged. */
  constructor(trie: ByteTrie, scores: Float64Array) {
    this.#trie = trie;
    this.#scores = scores;
    this.scoresChanged();
  }

  scoresChanged(): void {
    this.#unknownScore = this.minScore() - UNKNOWN_PENALTY;
  }

  minScore(): number {
    return this.#scores.reduce((min, score) => (score < min ? score : min), Infinity);
  }

  /** Adds the expected count of each piece over all segmentations to `expected`. @returns log-likelihood */
  addExpectedCounts({ bytes, offsets, counts }: TrainingWords, expected: Float64Array): number {
    let logLikelihood = 0;
    for (let word = 0; word < counts.length; word++) {
      const length = offsets[word + 1]! - offsets[word]!;
      this.#findEdges(bytes, offsets[word]!, length);
      const forward = this.#forward.fill(-Infinity, 0, length + 1);
      const backward = this.#backward.fill(-Infinity, 0, length + 1);
      forward[0] = 0;
      for (let edge = 0; edge < this.#numEdges; edge++) {
        const end = this.#ends[edge]!;
        forward[end] = logAdd(forward[end]!, forward[this.#starts[edge]!]! + this.#score(edge));
      }
      backward[length] = 0;
      const total = forward[length]!;
      for (let edge = this.#numEdges - 1; edge >= 0; edge--) {
        const start = this.#starts[edge]!;
        const through = this.#score(edge) + backward[this.#ends[edge]!]!;
        backward[start] = logAdd(backward[start]!, through);
        const id = this.#ids[edge]!;
        if (id === UNKNOWN) continue;
        expected[id] = expected[id]! + counts[word]! * Math.exp(forward[start]! + through - total);
      }
      logLikelihood += counts[word]! * total;
    }
    return logLikelihood;
  }

  /** Adds the count of each piece in the best segmentations to `used`. */
  addBestCounts({ bytes, offsets, counts }: TrainingWords, used: Float64Array): void {
    for (let word = 0; word < counts.length; word++) {
      const length = offsets[word + 1]! - offsets[word]!;
      this.#findEdges(bytes, offsets[word]!, length);
      this.#findBest(length, -1);
      for (let end = length; end > 0; end = this.#starts[this.#bestEdge[end]!]!) {
        const id = this.#ids[this.#bestEdge[end]!]!;
        if (id !== UNKNOWN) used[id] = used[id]! + counts[word]!;
      }
    }
  }

  /**
   * The replacement of a piece: the best segmentation of its text into other pieces.
   * @returns their ids and score; undefined if it needs unknown characters
   */
  bestAlternative(key: Uint8Array): { ids: number[]; score: number } | undefined {
    this.#findEdges(key, 0, key.length);
    const score = this.#findBest(key.length, key.length);
    if (score === -Infinity) return undefined;
    const ids: number[] = [];
    for (let end = key.length; end > 0; end = this.#starts[this.#bestEdge[end]!]!)
      ids.push(this.#ids[this.#bestEdge[end]!]!);
    return ids.includes(UNKNOWN) ? undefined : { ids, score };
  }

  /** @param withoutLength edges of this length are skipped */
  #findBest(length: number, withoutLength: number): number {
    const best = this.#forward.fill(-Infinity, 0, length + 1);
    best[0] = 0;
    for (let edge = 0; edge < this.#numEdges; edge++) {
      const start = this.#starts[edge]!;
      const end = this.#ends[edge]!;
      if (end - start === withoutLength) continue;
      const score = best[start]! + this.#score(edge);
      if (score > best[end]!) {
        best[end] = score;
        this.#bestEdge[end] = edge;
      }
    }
    return best[length]!;
  }

  #score(edge: number): number {
    const id = this.#ids[edge]!;
    return id === UNKNOWN ? this.#unknownScore : this.#scores[id]!;
  }

  #findEdges(bytes: Uint8Array, offset: number, length: number): void {
    const { base, check, value } = this.#trie;
    if (length >= this.#forward.length) {
      this.#forward = new Float64Array(2 * length);
      this.#backward = new Float64Array(2 * length);
      this.#bestEdge = new Int32Array(2 * length);
    }
    this.#numEdges = 0;
    for (let start = 0; start < length;) {
      const first = bytes[offset + start]!;
      const afterCharacter = start + (first === UNKNOWN_BYTE ? 1 : characterBytes(first));
      let isCharacterAPiece = false;
      let state = 0;
      for (let end = start; end < length;) {
        const next = base[state]! + bytes[offset + end]!;
        if (check[next] !== state) break;
        state = next;
        end++;
        const id = value[state]!;
        if (id < 0 || Number.isNaN(this.#scores[id]!)) continue;
        this.#addEdge(start, end, id);
        if (end === afterCharacter) isCharacterAPiece = true;
      }
      if (!isCharacterAPiece) this.#addEdge(start, afterCharacter, UNKNOWN);
      start = afterCharacter;
    }
  }

  #addEdge(start: number, end: number, id: number): void {
    const edge = this.#numEdges++;
    if (edge === this.#ids.length) {
      const grow = (old: Int32Array): Int32Array<ArrayBuffer> => {
        const grown = new Int32Array(2 * old.length);
        grown.set(old);
        return grown;
      };
      this.#starts = grow(this.#starts);
      this.#ends = grow(this.#ends);
      this.#ids = grow(this.#ids);
    }
    this.#starts[edge] = start;
    this.#ends[edge] = end;
    this.#ids[edge] = id;
  }
}
