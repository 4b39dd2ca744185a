/**
 * Text → normalized bytes: rules of the charsmap, spaces collapsed and escaped, dummy prefix. It equals SentencePiece's
 * normalizer, position by position on UTF-8 bytes. So one rule consumes a combining sequence as far as it matches, not
 * grapheme by grapheme.
 *
 * Definition: in the *inner form* a `▁` is the single byte 0x20. If the model escapes spaces, there is no other 0x20.
 * The most frequent character then takes one step in the trie instead of three.
 * Assumption: a lone surrogate becomes U+FFFD, as in every UTF-8 encoder.
 * Source: normalizer.cc of google/sentencepiece.
 */
import { TrainerError } from '../../shared/errors.ts';
import { type ByteTrie, buildByteTrie, longestKey } from './byte-trie.ts';
import { Charsmap } from './charsmap.ts';
import { type NormalizerSpec, SPACE_SYMBOL } from './unigram-model.ts';

/** Longest text in one call, UTF-16 units. Scratch memory grows to about 20 B for each. */
export const MAX_TEXT_UNITS = 1 << 25;

export const SPACE = 0x20;
/** Larger scratch memory is released after a long text. */
const KEPT_SCRATCH_BYTES = 1 << 20;

/** Result for an ASCII byte before another ASCII byte or the end: a byte, nothing, or "use the rules". */
const DROPPED = -1;
const BY_RULE = -2;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder('utf-8', { ignoreBOM: true });

export class Normalizer {
  readonly #charsmap: Charsmap;
  readonly #userDefined: ByteTrie | undefined;
  readonly #ascii = new Int16Array(128);
  readonly #addDummyPrefix: boolean;
  readonly #removeExtraSpaces: boolean;
  readonly #escapeSpaces: boolean;
  #source = new Uint8Array(0);
  #endsInSpace = false;
  #length = 0;
  /** The inner form of the last text: valid up to the length that `normalize` returned, until the next call. */
  bytes = new Uint8Array(0);

  /**
   * @param userDefined texts that stay unchanged everywhere (the model's user-defined pieces)
   * @throws TOKENIZER_INVALID
   */
  constructor(spec: NormalizerSpec, userDefined: readonly string[], where: string) {
    this.#charsmap = new Charsmap(spec.charsmap, where);
    this.#addDummyPrefix = spec.addDummyPrefix;
    this.#removeExtraSpaces = spec.removeExtraWhitespaces;
    this.#escapeSpaces = spec.escapeWhitespaces;
    const keys = userDefined.map((text) => utf8Encoder.encode(text));
    this.#userDefined = keys.length === 0 ? undefined : buildByteTrie(keys);
    const kept = new Set(keys.map((key) => key[0]));
    for (let byte = 0; byte < 128; byte++) this.#ascii[byte] = kept.has(byte) ? BY_RULE : this.#asciiRule(byte);
  }

  /** The UTF-8 bytes of one SPACE of the inner form. */
  get spaceBytes(): Uint8Array {
    return utf8Encoder.encode(this.#escapeSpaces ? SPACE_SYMBOL : ' ');
  }

  /** Inner form of a piece. Undefined if normalized text cannot contain it. */
  innerForm(piece: string): Uint8Array | undefined {
    if (!this.#escapeSpaces) return utf8Encoder.encode(piece);
    return piece.includes(' ') ? undefined : utf8Encoder.encode(piece.replaceAll(SPACE_SYMBOL, ' '));
  }

  /** The normalized text as SentencePiece prints it. */
  normalizedText(text: string): string {
    const length = this.normalize(text);
    const printed = utf8Decoder.decode(this.bytes.subarray(0, length));
    return this.#escapeSpaces ? printed.replaceAll(' ', SPACE_SYMBOL) : printed;
  }

  /**
   * Writes the inner form to `bytes`.
   * @returns its length in bytes
   * @throws SOURCE_MALFORMED for a text of more than MAX_TEXT_UNITS
   */
  normalize(text: string): number {
    const numUnits = text.length;
    if (numUnits === 0) return 0;
    if (numUnits > MAX_TEXT_UNITS) {
      throw new TrainerError(
        'SOURCE_MALFORMED',
        `a text of ${numUnits} UTF-16 units: expected at most ${MAX_TEXT_UNITS}; split it into documents or paragraphs`,
      );
    }
    // Each source unit has at most 3 bytes of UTF-8. Only rules lengthen a text, and #applyRule reserves space for
    // them.
    const room = 3 * numUnits + 2;
    if (this.bytes.length < room || (this.bytes.length > KEPT_SCRATCH_BYTES && room < KEPT_SCRATCH_BYTES)) {
      this.bytes = new Uint8Array(Math.max(2 * room, 256));
    }
    const bytes = this.bytes;
    const ascii = this.#ascii;
    const isCollapsing = this.#removeExtraSpaces;
    let length = 0;
    if (this.#addDummyPrefix) bytes[length++] = SPACE;
    let endsInSpace = isCollapsing;
    let at = 0;
    let unit = text.charCodeAt(0);
    while (at < numUnits && unit < 0x80) {
      const next = at + 1 < numUnits ? text.charCodeAt(at + 1) : 0;
      const becomes = ascii[unit]!;
      if (next >= 0x80 || becomes === BY_RULE) break;
      if (becomes === SPACE) {
        if (!endsInSpace) {
          bytes[length++] = SPACE;
          endsInSpace = isCollapsing;
        }
      } else if (becomes !== DROPPED) {
        bytes[length++] = becomes;
        endsInSpace = false;
      }
      at++;
      unit = next;
    }
    this.#length = length;
    this.#endsInSpace = endsInSpace;
    if (at < numUnits) this.#normalizeBytes(at === 0 ? text : text.slice(at));
    length = this.#length;
    if (isCollapsing) while (length > 0 && this.bytes[length - 1] === SPACE) length--;
    return length;
  }

  /** The same for the rest of a text, from its first position that is not plain ASCII. */
  #normalizeBytes(text: string): void {
    const room = 3 * text.length;
    if (this.#source.length < room || (this.#source.length > KEPT_SCRATCH_BYTES && room < KEPT_SCRATCH_BYTES)) {
      this.#source = new Uint8Array(Math.max(2 * room, 256));
    }
    const source = this.#source;
    const end = utf8Encoder.encodeInto(text, source).written;
    const ascii = this.#ascii;
    const isCollapsing = this.#removeExtraSpaces;
    let at = 0;
    while (at < end) {
      const byte = source[at]!;
      const becomes = byte < 0x80 ? ascii[byte]! : BY_RULE;
      if (becomes === BY_RULE || (at + 1 < end && source[at + 1]! >= 0x80)) {
        at += this.#applyRule(source, at, end);
        continue;
      }
      at++;
      if (becomes === SPACE) {
        if (!this.#endsInSpace) {
          this.bytes[this.#length++] = SPACE;
          this.#endsInSpace = isCollapsing;
        }
      } else if (becomes !== DROPPED) {
        this.bytes[this.#length++] = becomes;
        this.#endsInSpace = false;
      }
    }
  }

  /** Appends the result for the text at a position. @returns how many of its bytes were used */
  #applyRule(source: Uint8Array, at: number, end: number): number {
    const kept = this.#userDefined === undefined ? 0 : longestKey(this.#userDefined, source, at, end);
    if (kept > 0) {
      this.#append(source, at, at + kept, 0);
      return kept;
    }
    const used = this.#charsmap.longestMatch(source, at, end);
    if (used > 0) {
      const { replacements, replacementStart, replacementEnd } = this.#charsmap;
      this.#append(replacements, replacementStart, replacementEnd, end - at);
      return used;
    }
    const character = Math.min(characterBytes(source[at]!), end - at);
    this.#append(source, at, at + character, 0);
    return character;
  }

  /** @param pending bytes of source that must still fit after the appended ones */
  #append(from: Uint8Array, start: number, end: number, pending: number): void {
    let at = start;
    if (this.#endsInSpace) while (at < end && from[at] === SPACE) at++;
    if (at === end) return;
    const room = this.#length + (end - at) + pending + 2;
    if (room > this.bytes.length) {
      const grown = new Uint8Array(2 * room);
      grown.set(this.bytes.subarray(0, this.#length));
      this.bytes = grown;
    }
    const bytes = this.bytes;
    let length = this.#length;
    const isSymbolAt = (i: number): boolean =>
      this.#escapeSpaces && from[i] === 0xe2 && from[i + 1] === 0x96 && from[i + 2] === 0x81 && i + 3 <= end;
    while (at < end) {
      if (isSymbolAt(at)) {
        bytes[length++] = SPACE;
        at += 3;
      } else {
        bytes[length++] = from[at++]!;
      }
    }
    this.#length = length;
    this.#endsInSpace = this.#removeExtraSpaces && from[end - 1] === SPACE;
  }

  #asciiRule(byte: number): number {
    for (let next = 0; next < 128; next++) if (this.#charsmap.hasRuleStarting(byte, next)) return BY_RULE;
    if (this.#charsmap.longestMatch(Uint8Array.of(byte), 0, 1) === 0) return byte;
    const { replacements, replacementStart, replacementEnd } = this.#charsmap;
    if (replacementStart === replacementEnd) return DROPPED;
    const becomes = replacements[replacementStart]!;
    return replacementEnd === replacementStart + 1 && becomes < 0x80 ? becomes : BY_RULE;
  }
}

/** Number of bytes of the UTF-8 character that begins with this byte. */
export function characterBytes(first: number): number {
  return first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}
