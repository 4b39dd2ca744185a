/**
 * The Unicode script of a character, as far as a vocabulary needs it: pieces do not mix scripts, so letters, digits and punctuation of
 * one word (`F1`) stay apart, while Han, Hiragana and Katakana count as one.
 *
 * Assumption: the scripts named here are the ones told apart; all others (historic ones) count as one more script.
 * Source: IsValidSentencePiece in trainer_interface.cc of google/sentencepiece.
 */

/** Marks that take the script of what they stand on: they fit with any. */
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

/** A number for the script of one character; ANY_SCRIPT for a combining mark. */
export function scriptOf(character: string): number {
  if (INHERITED.test(character)) return ANY_SCRIPT;
  if (CJ.test(character)) return HAN;
  return HAN + 1 + PATTERNS.findIndex((pattern) => pattern.test(character)) + 1;
}
