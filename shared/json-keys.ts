/**
 * Duplicate keys in JSON. JSON.parse keeps the last of them and other readers the first, so one file can say two things.
 *
 * Assumes text that JSON.parse has accepted.
 */

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
