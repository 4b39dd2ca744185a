/**
 * The training data of a vocabulary: the distinct words of the normalized text with their counts.
 *
 * Definition: a *word* is a `▁` and the text up to the next one, in inner form (normalizer.ts). Pieces never cross
 * words. Characters outside the required coverage become UNKNOWN_BYTE, which no piece contains.
 */
import { TrainerError } from '../../../shared/errors.ts';
import { Normalizer, SPACE, characterBytes } from '../normalizer.ts';
import type { NormalizerSpec } from '../unigram-model.ts';

/** Represents a rare character. UTF-8 never contains this byte. */
export const UNKNOWN_BYTE = 0xff;

/** Largest number of distinct words in memory; about 100 B each. */
const MAX_DISTINCT_WORDS = 2_000_000;

/** Concatenated words: word w is bytes[offsets[w], offsets[w+1]) and occurs counts[w] times. Most frequent first. */
export interface TrainingWords {
  readonly bytes: Uint8Array;
  readonly offsets: Int32Array;
  readonly counts: Float64Array;
  /** Characters that every vocabulary must contain, as UTF-8 in inner form, most frequent first. */
  readonly requiredCharacters: readonly Uint8Array[];
}

/** Counts the words of texts. The result does not depend on the order of the texts, nor on cuts at spaces. */
export class WordCounter {
  readonly #normalizer: Normalizer;
  /** Key: the bytes of the word, each as one UTF-16 unit. */
  readonly #counts = new Map<string, number>();

  constructor(spec: NormalizerSpec) {
    this.#normalizer = new Normalizer(spec, [], 'normalizer of the new model');
  }

  /**
   * @throws CONFIG_INVALID if the texts have more than MAX_DISTINCT_WORDS distinct words; SOURCE_MALFORMED for a text
   * that is too long
   */
  add(text: string): void {
    const length = this.#normalizer.normalize(text);
    const bytes = Buffer.from(this.#normalizer.bytes.buffer, this.#normalizer.bytes.byteOffset, length);
    let start = 0;
    while (start < length) {
      const space = bytes.indexOf(SPACE, start + 1);
      const end = space === -1 ? length : space;
      const word = bytes.toString('latin1', start, end);
      this.#counts.set(word, (this.#counts.get(word) ?? 0) + 1);
      start = end;
    }
    if (this.#counts.size > MAX_DISTINCT_WORDS) {
      throw new TrainerError(
        'CONFIG_INVALID',
        `the training text has more than ${MAX_DISTINCT_WORDS} distinct words; train on a sample of it`,
      );
    }
  }

  /**
   * @param coverage share of all characters that must be known, in (0, 1]
   * @throws CONFIG_INVALID without any text
   */
  finish(coverage: number): TrainingWords {
    if (this.#counts.size === 0) throw new TrainerError('CONFIG_INVALID', 'there is no text to train a tokenizer on');
    const required = this.#requiredCharacters(coverage);
    const counts = new Map<string, number>();
    for (const [word, count] of this.#counts) {
      const known = charactersOf(word)
        .map((character) => (required.has(character) ? character : String.fromCharCode(UNKNOWN_BYTE)))
        .join('');
      counts.set(known, (counts.get(known) ?? 0) + count);
    }
    const words = sortByCount(counts);
    const offsets = new Int32Array(words.length + 1);
    words.forEach(([word], i) => (offsets[i + 1] = offsets[i]! + word.length));
    const bytes = Buffer.alloc(offsets[words.length]!);
    words.forEach(([word], i) => bytes.write(word, offsets[i]!, 'latin1'));
    return {
      bytes,
      offsets,
      counts: Float64Array.from(words, ([, count]) => count),
      requiredCharacters: [...required].map((character) => Buffer.from(character, 'latin1')),
    };
  }

  #requiredCharacters(coverage: number): Set<string> {
    const counts = new Map<string, number>();
    let total = 0;
    for (const [word, count] of this.#counts) {
      for (const character of charactersOf(word)) {
        counts.set(character, (counts.get(character) ?? 0) + count);
        total += count;
      }
    }
    const required = new Set<string>();
    let covered = 0;
    for (const [character, count] of sortByCount(counts)) {
      if (covered / total >= coverage) break;
      required.add(character);
      covered += count;
    }
    return required;
  }
}

/** Most frequent first, then by bytes. This order does not depend on the order of the texts. */
function sortByCount(counts: ReadonlyMap<string, number>): [string, number][] {
  return [...counts].sort(([a, countA], [b, countB]) => countB - countA || (a < b ? -1 : 1));
}

function charactersOf(word: string): string[] {
  const characters: string[] = [];
  for (let at = 0; at < word.length;) {
    const length = characterBytes(word.charCodeAt(at));
    characters.push(word.slice(at, at + length));
    at += length;
  }
  return characters;
}
