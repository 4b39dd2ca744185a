/**
 * Python's notions of text, which the reference metrics use: white space, word characters, numbers.
 *
 * JavaScript's `\s` holds U+FEFF and lacks U+001C to U+001F and U+0085; its `\w` and `\b` know ASCII only.
 */

/** One character that Python's `str.isspace` calls white space, as the inside of a character class. */
const SPACE = '\\u0009-\\u000d\\u001c-\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const SPACES = new RegExp(`[${SPACE}]+`, 'u');
const TRAILING_SPACES = new RegExp(`[${SPACE}]+$`, 'u');
const OUTER_SPACES = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, 'gu');

/** A character of Python's `\w`, as the inside of a character class. */
export const WORD_CHARACTERS = '\\p{L}\\p{N}_';

/** Python's `string.punctuation`. */
export const ASCII_PUNCTUATION = '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~';

/** `text.split()`: the words between runs of white space; none for blank text. */
export function splitWords(text: string): string[] {
  return text.split(SPACES).filter((word) => word !== '');
}

/** `text.rstrip()` */
export function trimEnd(text: string): string {
  return text.replace(TRAILING_SPACES, '');
}

/** `text.strip()` */
export function trim(text: string): string {
  return text.replace(OUTER_SPACES, '');
}

const NUMBER = /^[+-]?(?:(?:\d+(?:_\d+)*)(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+(?:_\d+)*)(?:e[+-]?\d+(?:_\d+)*)?$/iu;
const SPECIAL = new Map([
  ['nan', NaN],
  ['inf', Infinity],
  ['infinity', Infinity],
]);

/** A decimal digit of any script as its ASCII digit; other characters as they are. */
function asciiDigits(text: string): string {
  return text.replace(/\p{Nd}/gu, (digit) => String(digitValue(digit)));
}

/** The value of a decimal digit: the digits of a script lie in blocks of ten that begin at its zero. */
function digitValue(digit: string): number {
  const code = digit.codePointAt(0) ?? 0;
  if (code < 0x80) return code - 0x30;
  let zero = code;
  while (code - zero < 9 && /\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--;
  // Mathematical digits follow each other without a gap, five alphabets from U+1D7CE on.
  return code >= 0x1d7ce && code <= 0x1d7ff ? (code - 0x1d7ce) % 10 : code - zero;
}

/** `float(text)`, or undefined where Python raises ValueError: `_` between digits and digits of any script are numbers, hexadecimal is not. */
export function parseFloatLikePython(text: string): number | undefined {
  const trimmed = asciiDigits(trim(text));
  const special = /^([+-]?)(nan|inf|infinity)$/iu.exec(trimmed);
  if (special !== null) {
    const value = SPECIAL.get((special[2] ?? '').toLowerCase()) ?? NaN;
    return special[1] === '-' ? -value : value;
  }
  return NUMBER.test(trimmed) ? Number(trimmed.replaceAll('_', '')) : undefined;
}

/** `int(text)`, or undefined where Python raises ValueError. */
export function parseIntegerLikePython(text: string): number | undefined {
  const trimmed = asciiDigits(trim(text));
  return /^[+-]?\d+(?:_\d+)*$/u.test(trimmed) ? Number(trimmed.replaceAll('_', '')) : undefined;
}
