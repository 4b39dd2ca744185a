/**
 * Text of files and peers, made safe for a terminal: control characters, escape sequences and marks that change the direction of text are
 * shown as `\u001b`. Line feeds and tabs stay. Pure.
 *
 * The escapes are those of JSON, so a JSON text keeps its value.
 */

// C0 without line feed and tab, DEL and C1; marks and overrides of direction; line and paragraph separators; lone surrogates.
// eslint-disable-next-line no-control-regex -- these characters are what it looks for
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|\p{Surrogate}/gu;

export function visibleText(text: string): string {
  return text.replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
