/**
 * SentencePiece's compiled normalization rules (`precompiled_charsmap`): finds the longest rule that applies at a
 * position of a text.
 *
 * | bytes | content |
 * |---|---|
 * | 4, little-endian | size of the trie, bytes |
 * | that many | units of a darts-clone double array, 4 bytes each, little-endian |
 * | the rest | replacements, UTF-8, each ended by a zero byte; the value of a rule is the offset of its replacement |
 *
 * A unit: bits 0–7 label, 8 has a value, 9–30 offset to its children (bit 9: shift the offset by 8), 31 set in value
 * units.
 * Source: normalizer.cc of google/sentencepiece; s-yata/darts-clone.
 */
import { TrainerError } from '../../shared/errors.ts';

const LABEL_MASK = 0x800000ff | 0;

function childrenOffset(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

export class Charsmap {
  readonly #units: Int32Array;
  /** All replacements. The replacement of the last match is at [replacementStart, replacementEnd). */
  readonly replacements: Uint8Array;
  replacementStart = 0;
  replacementEnd = 0;

  /** @param blob empty means no rules @throws TOKENIZER_INVALID */
  constructor(blob: Uint8Array, where: string) {
    if (blob.length === 0) {
      this.#units = new Int32Array(0);
      this.replacements = new Uint8Array(0);
      return;
    }
    const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
    const trieBytes = blob.length < 4 ? 0 : view.getUint32(0, true);
    if (trieBytes === 0 || trieBytes % 4 !== 0 || trieBytes > blob.length - 5) {
      throw new TrainerError(
        'TOKENIZER_INVALID',
        `${where}: expected a normalization charsmap, found a trie of ${trieBytes} B in ${blob.length} B`,
      );
    }
    this.#units = new Int32Array(trieBytes / 4);
    for (let i = 0; i < this.#units.length; i++) this.#units[i] = view.getInt32(4 + 4 * i, true);
    this.replacements = blob.slice(4 + trieBytes);
    this.#validate(where);
  }

  /**
   * The longest rule whose key begins text[at, end).
   * @returns the length of the key in bytes, 0 if no rule applies. The fields hold the position of the replacement.
   */
  longestMatch(text: Uint8Array, at: number, end: number): number {
    const units = this.#units;
    if (units.length === 0) return 0;
    let longest = 0;
    let value = 0;
    let place = childrenOffset(units[0]!);
    for (let i = at; i < end; i++) {
      const byte = text[i]!;
      place ^= byte;
      if (place >= units.length) break;
      const unit = units[place]!;
      if ((unit & LABEL_MASK) !== byte) break;
      place ^= childrenOffset(unit);
      if ((unit & 0x100) !== 0) {
        longest = i + 1 - at;
        value = units[place]! & 0x7fffffff;
      }
    }
    if (longest > 0) {
      this.replacementStart = value;
      this.replacementEnd = this.replacements.indexOf(0, value);
    }
    return longest;
  }

  /** Whether the key of some rule begins with these two bytes. */
  hasRuleStarting(first: number, second: number): boolean {
    const units = this.#units;
    if (units.length === 0) return false;
    const place = childrenOffset(units[0]!) ^ first;
    const unit = units[place] ?? -1;
    if ((unit & LABEL_MASK) !== first) return false;
    const next = place ^ childrenOffset(unit) ^ second;
    return ((units[next] ?? -1) & LABEL_MASK) === second;
  }

  /** Visits each reachable unit once: all values must point into the replacements, which must end with a zero. */
  #validate(where: string): void {
    const units = this.#units;
    const invalid = (problem: string): TrainerError =>
      new TrainerError('TOKENIZER_INVALID', `${where}: the normalization charsmap is damaged: ${problem}`);
    if (this.replacements[this.replacements.length - 1] !== 0) throw invalid('its replacements do not end with a zero');
    const seen = new Uint8Array(units.length);
    const stack = [0];
    for (let place = stack.pop(); place !== undefined; place = stack.pop()) {
      const children = place ^ childrenOffset(units[place]!);
      // The children of the root are at its offset; those of another unit at its own index xor its offset.
      const isLeaf = place !== 0 && (units[place]! & 0x100) !== 0;
      if (isLeaf) {
        const value = units[children];
        if (value === undefined || (value & 0x7fffffff) >= this.replacements.length) {
          throw invalid(`unit ${place} has a value outside its ${this.replacements.length} B of replacements`);
        }
      }
      for (let byte = 0; byte < 256; byte++) {
        const child = children ^ byte;
        if (child < units.length && child > 0 && seen[child] === 0 && (units[child]! & LABEL_MASK) === byte) {
          seen[child] = 1;
          stack.push(child);
        }
      }
    }
  }
}
