/**
 * The first vocabulary, which is far too large: all characters, and the frequent substrings of words.
 *
 * Definition: a substring is a candidate if it occurs at least twice, has at most `maxCharacters`, and mixes no
 * scripts. It must also occur more often than each longer candidate that extends it; otherwise the longer one stands
 * for it. The best by count × length are used, as SentencePiece does with its suffix array. Substrings grow by one
 * character at a time; one is considered only if both of its parts that are one character shorter are frequent.
 */
import { characterBytes, SPACE } from '../normalizer.ts';
import { type TrainingWords, UNKNOWN_BYTE } from './word-counts.ts';

export interface SeedPieces {
  /** Distinct pieces in inner form. */
  readonly keys: readonly Uint8Array[];
  /** The text that each covers: count × characters for substrings, count for single characters. */
  readonly weights: Float64Array;
}

export interface SeedOptions {
  readonly maxCharacters: number;
  /** Largest number of substrings. */
  readonly maxSeeds: number;
}

const MIN_COUNT = 2;

/** The words as a sequence of characters. A position with alphabet index -1 separates words. */
interface CharacterText {
  /** Index into the alphabet. -1 after each word and for unknown characters. */
  readonly characters: Int32Array;
  /** Start of the character of a position in TrainingWords.bytes. */
  readonly byteStarts: Int32Array;
  /** Count of the word that contains the position. */
  readonly counts: Float64Array;
  /** How many characters from a position on may be in one piece. */
  readonly reaches: Uint8Array;
  readonly alphabet: readonly Uint8Array[];
}

interface Candidate {
  readonly position: number;
  readonly numCharacters: number;
  readonly score: number;
}

export function findSeedPieces(words: TrainingWords, { maxCharacters, maxSeeds }: SeedOptions): SeedPieces {
  const text = readCharacters(words, maxCharacters);
  const { alphabet, characters, counts } = text;
  const characterCounts = new Float64Array(alphabet.length);
  characters.forEach((character, i) => {
    if (character >= 0) characterCounts[character] = characterCounts[character]! + counts[i]!;
  });
  const keyOf = ({ position, numCharacters }: Candidate): Uint8Array =>
    words.bytes.subarray(text.byteStarts[position], text.byteStarts[position + numCharacters]);
  const candidates = findCandidates(text, maxCharacters).map((candidate) => ({ candidate, key: keyOf(candidate) }));
  candidates.sort((a, b) => b.candidate.score - a.candidate.score || Buffer.compare(a.key, b.key));
  candidates.length = Math.min(candidates.length, maxSeeds);
  const weights = new Float64Array(alphabet.length + candidates.length);
  weights.set(characterCounts);
  candidates.forEach(({ candidate }, i) => (weights[alphabet.length + i] = candidate.score));
  return { keys: [...alphabet, ...candidates.map(({ key }) => key)], weights };
}

function readCharacters(
  { bytes, offsets, counts, requiredCharacters }: TrainingWords,
  maxCharacters: number,
): CharacterText {
  const indexOf = new Map(requiredCharacters.map((character, i) => [Buffer.from(character).toString('latin1'), i]));
  const scripts = requiredCharacters.map((character) =>
    character[0] === SPACE ? ANY_SCRIPT : scriptOf(Buffer.from(character).toString('utf8')),
  );
  const length = bytes.length + counts.length; // at most: one character for each byte, one end for each word
  const characters = new Int32Array(length).fill(-1);
  const byteStarts = new Int32Array(length + 1);
  const positionCounts = new Float64Array(length);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let position = 0;
  for (let word = 0; word < counts.length; word++) {
    for (let at = offsets[word]!; at < offsets[word + 1]!;) {
      const end = at + (bytes[at] === UNKNOWN_BYTE ? 1 : characterBytes(bytes[at]!));
      characters[position] = indexOf.get(buffer.toString('latin1', at, end)) ?? -1;
      byteStarts[position] = at;
      positionCounts[position++] = counts[word]!;
      at = end;
    }
    byteStarts[position++] = offsets[word + 1]!;
  }
  const reaches = new Uint8Array(position);
  for (let i = 0; i < position; i++) {
    let script = ANY_SCRIPT;
    let end = i;
    while (end < position && end - i < maxCharacters && characters[end]! >= 0) {
      const next = scripts[characters[end]!]!;
      if (script !== ANY_SCRIPT && next !== ANY_SCRIPT && next !== script) break;
      if (next !== ANY_SCRIPT) script = next;
      end++;
    }
    reaches[i] = end - i;
  }
  return {
    characters: characters.subarray(0, position),
    byteStarts,
    counts: positionCounts.subarray(0, position),
    reaches,
    alphabet: requiredCharacters,
  };
}

/** Frequent substrings of at least two characters. */
function findCandidates({ characters, counts, reaches, alphabet }: CharacterText, maxCharacters: number): Candidate[] {
  const candidates: Candidate[] = [];
  // At each level: the id of the substring of `length` characters that begins at a position. -1 if it is not frequent.
  let ids = Int32Array.from(characters);
  let parents: Candidate[] = [];
  for (let length = 2; length <= maxCharacters; length++) {
    const idOf = new Map<number, number>();
    const next = new Int32Array(ids.length).fill(-1);
    const totals: number[] = [];
    const firsts: number[] = [];
    for (let i = 0; i + 1 < ids.length; i++) {
      if (reaches[i]! < length || ids[i]! < 0 || ids[i + 1]! < 0) continue;
      const key = ids[i]! * alphabet.length + characters[i + length - 1]!;
      let id = idOf.get(key);
      if (id === undefined) {
        id = totals.push(0) - 1;
        firsts.push(i);
        idOf.set(key, id);
      }
      totals[id] = totals[id]! + counts[i]!;
      next[i] = id;
    }
    const isCovered = new Uint8Array(parents.length);
    const found: Candidate[] = [];
    const renumbered = Int32Array.from(totals, (total, id) => {
      if (total < MIN_COUNT) return -1;
      const position = firsts[id]!;
      const parent = parents[ids[position]!];
      if (parent !== undefined && parent.score === total * parent.numCharacters) isCovered[ids[position]!] = 1;
      return found.push({ position, numCharacters: length, score: total * length }) - 1;
    });
    for (const [i, parent] of parents.entries()) if (isCovered[i] === 0) candidates.push(parent);
    if (found.length === 0) return candidates;
    for (let i = 0; i < next.length; i++) if (next[i]! >= 0) next[i] = renumbered[next[i]!]!;
    ids = next;
    parents = found;
  }
  return [...candidates, ...parents];
}

/** The script of combining marks: they match any script. */
export const ANY_SCRIPT = 0;

const HAN = 1;

const SCRIPTS = (
  'Common Latin Greek Cyrillic Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada ' +
  'Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian Hangul Ethiopic Cherokee Canadian_Aboriginal Khmer Mongolian Bopomofo Yi ' +
  'Tifinagh Nko Javanese Balinese Coptic Runic Braille Gothic Ogham'
).split(' ');

const PATTERNS = SCRIPTS.map((name) => new RegExp(`^\\p{Script=${name}}$`, 'u'));
const INHERITED = /^\p{Script=Inherited}$/u;
const CJ = /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\u30fc]$/u;

/**
 * A number for the Unicode script of a character; ANY_SCRIPT for a combining mark. Pieces do not mix scripts: letters,
 * digits and punctuation of one word (`F1`) stay apart. Han, Hiragana and Katakana count as one script. Scripts that
 * SCRIPTS does not list (historic ones) count as one more script.
 * Source: IsValidSentencePiece in trainer_interface.cc of google/sentencepiece.
 */
export function scriptOf(character: string): number {
  if (INHERITED.test(character)) return ANY_SCRIPT;
  if (CJ.test(character)) return HAN;
  return HAN + 1 + PATTERNS.findIndex((pattern) => pattern.test(character)) + 1;
}
