/**
 * What JSON.parse lets pass: deep nesting and duplicate keys.
 *
 * JSON.parse does not recurse, but a walk over its result does, and a stack that overflows can end the process. Of two equal keys JSON.parse
 * keeps the last one and other readers the first one, so one file can say two things.
 *
 * Assumes text that JSON.parse has accepted.
 */

/** Most lists and objects inside each other that records of exmix have; a cursor has three. */
const MAX_DEPTH = 100;

const [QUOTE, BRACE, BRACE_END, BRACKET, BRACKET_END] = [0x22, 0x7b, 0x7d, 0x5b, 0x5d];

/** Whether more than MAX_DEPTH lists and objects are inside each other. */
export function isTooDeep(json: string): boolean {
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) at = endOfString(json, at);
    else if (code === BRACE || code === BRACKET) {
      depth += 1;
      if (depth > MAX_DEPTH) return true;
    } else if (code === BRACE_END || code === BRACKET_END) depth -= 1;
  }
  return false;
}

/** The first key that an object has twice, at any depth; undefined if there is none. */
export function findDuplicateKey(json: string): string | undefined {
  /** Keys of the open objects; null for an open list. */
  const open: (Set<string> | null)[] = [];
  let isKey = false;
  for (let at = 0; at < json.length; at++) {
    switch (json.charAt(at)) {
      case '{':
        open.push(new Set());
        isKey = true;
        break;
      case '[':
        open.push(null);
        isKey = false;
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case ',':
        isKey = open.at(-1) !== null;
        break;
      case '"': {
        const end = endOfString(json, at);
        const keys = open.at(-1);
        if (isKey && keys !== null && keys !== undefined) {
          const key = JSON.parse(json.slice(at, end + 1)) as string;
          if (keys.has(key)) return key;
          keys.add(key);
          isKey = false;
        }
        at = end;
        break;
      }
    }
  }
  return undefined;
}

/** Index of the quote that ends the string that begins at `start`. */
function endOfString(json: string, start: number): number {
  let end = start + 1;
  while (json[end] !== '"') end += json[end] === '\\' ? 2 : 1;
  return end;
}
