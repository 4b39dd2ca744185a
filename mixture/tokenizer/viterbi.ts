/**
 * The best segmentation of normalized text into pieces, and its ids: SentencePiece's optimized Viterbi, bit for bit.
 *
 * Definition: the score of a segmentation is the sum of the scores of its pieces. A character that is not a piece may
 * be unknown, with score min − 10. Sums are float32 over the whole text. Candidates come by earliest start and shortest
 * piece first, and a later one wins only if strictly better: this decides ties as SentencePiece does. A cache of words
 * would change sums, and so ties.
 * Source: unigram_model.cc (EncodeOptimized) and sentencepiece_processor.cc (PopulateSentencePieceText) of
 * google/sentencepiece.
 */
import { type ByteTrie, buildByteTrie } from './byte-trie.ts';
import { type Normalizer, SPACE, characterBytes } from './normalizer.ts';
import { UNK_ID, type UnigramModel, byteOfPiece } from './unigram-model.ts';

const UNKNOWN_PENALTY = 10;
/** A user-defined piece of L bytes scores L × max(largest score, this) − 0.1, so it always wins. */
const SMALLEST_FLOAT = 1.1754943508222875e-38;
const KEPT_SCRATCH_CHARS = 1 << 20;

export class UnigramEncoder {
  readonly #trie: ByteTrie;
  /** Score of the piece that ends in a trie state. NaN (never better) if none does. */
  readonly #stateScore: Float64Array;
  readonly #unknownScore: number;
  /** Id of the piece of each byte. Undefined without byte fallback. */
  readonly #byteIds: Int32Array | undefined;
  readonly #spaceBytes: Uint8Array;
  // The best segmentation that ends at each byte: its score, and start and id of its last piece.
  #bestScore = new Float32Array(256);
  #bestStart = new Int32Array(256);
  #bestId = new Int32Array(256);
  #ids = new Int32Array(768);

  constructor(model: UnigramModel, normalizer: Normalizer) {
    const keys: Uint8Array[] = [];
    const idOfKey: number[] = [];
    let minScore = Infinity;
    let maxScore = SMALLEST_FLOAT;
    for (const { kind, score } of model.pieces) {
      if (kind !== 'normal') continue;
      minScore = Math.min(minScore, score);
      maxScore = Math.max(maxScore, score);
    }
    const scores: number[] = [];
    model.pieces.forEach(({ text, kind, score }, id) => {
      const key = kind === 'normal' || kind === 'user-defined' ? normalizer.innerForm(text) : undefined;
      if (key === undefined) return;
      keys.push(key);
      idOfKey.push(id);
      scores.push(kind === 'normal' ? score : Math.fround(Buffer.byteLength(text) * maxScore) - 0.1);
    });
    this.#unknownScore = Math.fround(minScore - UNKNOWN_PENALTY);
    const trie = buildByteTrie(keys);
    this.#stateScore = new Float64Array(trie.value.length).fill(NaN);
    trie.value.forEach((key, state) => {
      if (key < 0) return;
      this.#stateScore[state] = scores[key]!;
      trie.value[state] = idOfKey[key]!;
    });
    this.#trie = trie;
    this.#spaceBytes = normalizer.spaceBytes;
    if (model.byteFallback) {
      const byteIds = new Int32Array(256);
      model.pieces.forEach(({ text, kind }, id) => {
        if (kind === 'byte') byteIds[byteOfPiece(text)!] = id;
      });
      this.#byteIds = byteIds;
    }
  }

  /**
   * Ids of the first `length` bytes of inner form. A run of unknown characters is one id.
   * @returns their number; if they do not fit into out[at…), out is unchanged
   */
  encodeInto(bytes: Uint8Array, length: number, out: Int32Array, at: number): number {
    if (length === 0) return 0;
    this.#reserve(length + 1);
    this.#findBest(bytes, length);
    const start = this.#collect(bytes, length);
    const count = this.#ids.length - start;
    if (count <= out.length - at) {
      const ids = this.#ids;
      for (let i = 0; i < count; i++) out[at + i] = ids[start + i]!;
    }
    return count;
  }

  #findBest(bytes: Uint8Array, length: number): void {
    const { base, check, value } = this.#trie;
    const stateScore = this.#stateScore;
    const bestScore = this.#bestScore;
    const bestStart = this.#bestStart;
    const bestId = this.#bestId;
    bestScore.fill(-Infinity, 0, length + 1);
    bestScore[0] = 0;
    let start = 0;
    while (start < length) {
      const scoreHere = bestScore[start]!;
      const first = bytes[start]!;
      const afterCharacter = first < 0x80 ? start + 1 : Math.min(start + characterBytes(first), length);
      let isCharacterAPiece = false;
      let state = 0;
      let end = start;
      while (end < length) {
        const next = base[state]! + bytes[end]!;
        if (check[next] !== state) break;
        state = next;
        end++;
        const score = stateScore[state]!;
        const candidate = Math.fround(score + scoreHere);
        if (candidate > bestScore[end]!) {
          bestScore[end] = candidate;
          bestStart[end] = start;
          bestId[end] = value[state]!;
        }
        if (end === afterCharacter && score === score) isCharacterAPiece = true;
      }
      if (!isCharacterAPiece) {
        const candidate = Math.fround(this.#unknownScore + scoreHere);
        if (candidate > bestScore[afterCharacter]!) {
          bestScore[afterCharacter] = candidate;
          bestStart[afterCharacter] = start;
          bestId[afterCharacter] = UNK_ID;
        }
      }
      start = afterCharacter;
    }
  }

  /** Follows the best path backwards. The ids are at the end of #ids, from the returned index. */
  #collect(bytes: Uint8Array, length: number): number {
    const ids = this.#ids;
    const byteIds = this.#byteIds;
    let place = ids.length;
    let isNextUnknown = false;
    for (let end = length; end > 0; end = this.#bestStart[end]!) {
      const id = this.#bestId[end]!;
      if (id !== UNK_ID) {
        ids[--place] = id;
        isNextUnknown = false;
      } else if (byteIds !== undefined) {
        for (let i = end - 1; i >= this.#bestStart[end]!; i--) {
          const written = bytes[i] === SPACE ? this.#spaceBytes : bytes.subarray(i, i + 1);
          for (let j = written.length - 1; j >= 0; j--) ids[--place] = byteIds[written[j]!]!;
        }
      } else if (!isNextUnknown) {
        ids[--place] = id;
        isNextUnknown = true;
      }
    }
    return place;
  }

  #reserve(length: number): void {
    const capacity = this.#bestStart.length;
    if (length <= capacity && (capacity <= KEPT_SCRATCH_CHARS || length > KEPT_SCRATCH_CHARS / 4)) return;
    const grown = Math.max(256, 2 * length);
    this.#bestScore = new Float32Array(grown);
    this.#bestStart = new Int32Array(grown);
    this.#bestId = new Int32Array(grown);
    this.#ids = new Int32Array(this.#byteIds === undefined ? grown : grown * this.#spaceBytes.length);
  }
}
