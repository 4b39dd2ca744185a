/**
 * JSON text → value, with nothing lost: a number that a double cannot hold comes as its digits, and a lone surrogate is
 * an error. An error has its place. Pure.
 *
 * Definition: a number stays a number if its text, read as a double and written again, is the same decimal. Else the
 * value is its text: `12345678901234567890`, `0.1234567890123456789`, `0.0000001` (which JavaScript writes as 1e-7).
 * Assumption: `JSON.parse` accepts the same texts (RFC 8259). It reads almost all of them; the parser here is for texts
 * that may lose digits and for the place of an error.
 */

export type ParsedJson =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly kind: 'syntax' | 'surrogate'; readonly reason: string };

/** May a number of this text lose digits? Text of strings may match too: that costs time only. */
const MAY_LOSE_DIGITS = /(?:^|[\s:,[])-?(?:\d[\d.]{15}|\d[\d.]*[eE]|0\.000000)/u;
const MAY_LACK_SURROGATE = /\\u[dD][89a-fA-F]/u;
/** Characters that a message shows of the wrong text. */
const MAX_FOUND = 12;

export function parseJson(text: string): ParsedJson {
  let value: unknown;
  if (MAY_LOSE_DIGITS.test(text)) {
    const parsed = new JsonParser(text).parse();
    if (!parsed.ok) return parsed;
    ({ value } = parsed);
  } else
    try {
      value = JSON.parse(text);
    } catch {
      // The engine's own message may differ between versions of Node, and manifests hold reasons.
      return new JsonParser(text).parse();
    }
  if (!MAY_LACK_SURROGATE.test(text)) return { ok: true, value };
  const place = findLoneSurrogate(value);
  if (place === undefined) return { ok: true, value };
  return {
    ok: false,
    kind: 'surrogate',
    reason: `half of a surrogate pair ${place}: the text was cut inside a character`,
  };
}

/** The number, if a double holds it exactly as written; else the text. @param text a number of JSON */
export function numberOrDigits(text: string): number | string {
  const value = Number(text);
  const written = String(value);
  if (written === text) return value;
  if (/^-?\d+$/u.test(text)) return Number.isSafeInteger(value) ? value : text;
  const isSame = decimalOf(written) === decimalOf(text) && (!written.includes('e') || /e/iu.test(text));
  return isSame ? value : text;
}

/** A canonical form: digits without zeros at the ends, and an exponent. Undefined for Infinity and NaN. */
function decimalOf(text: string): string | undefined {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/u.exec(text);
  if (match === null) return undefined;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = `${whole}${fraction}`.replace(/^0+/u, '');
  const kept = digits.replace(/0+$/u, '');
  if (kept === '') return '0';
  return `${sign}${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`;
}

/** Where a string or name has a surrogate without its partner: `in "q"`, the field at the top. */
function findLoneSurrogate(root: unknown): string | undefined {
  const open: { readonly value: unknown; readonly place: string }[] = [{ value: root, place: '' }];
  for (let top = open.pop(); top !== undefined; top = open.pop()) {
    const { value, place } = top;
    if (typeof value === 'string' && !value.isWellFormed()) return `in ${place || 'the text'}`;
    if (typeof value !== 'object' || value === null) continue;
    for (const [name, entry] of Object.entries(value)) {
      if (!name.isWellFormed()) return 'in a name';
      open.push({ value: entry, place: place === '' ? JSON.stringify(name) : place });
    }
  }
  return undefined;
}

/** The first value of a text that may go on, or may be cut. */
export type JsonStart =
  | { readonly state: 'whole'; readonly end: number }
  /** The text ends before the value does. */
  | { readonly state: 'cut' }
  | { readonly state: 'wrong'; readonly at: number };

export function findJsonEnd(text: string): JsonStart {
  return new JsonParser(text).findEnd();
}

type Container = unknown[] | Record<string, unknown>;

class WrongJson extends SyntaxError {
  readonly at: number;
  readonly expected: string;

  constructor(at: number, expected: string) {
    super(`expected ${expected}`);
    this.at = at;
    this.expected = expected;
  }
}

/** Without recursion, so that no depth overflows the stack. */
class JsonParser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): ParsedJson {
    try {
      const value = this.#readValue();
      this.#skipSpace();
      if (this.#at < this.#text.length) throw new WrongJson(this.#at, 'the end');
      return { ok: true, value };
    } catch (error) {
      if (!(error instanceof WrongJson)) throw error;
      const found = this.#text.slice(error.at, error.at + MAX_FOUND);
      const shown = found === '' ? 'the end of the text' : JSON.stringify(found);
      return {
        ok: false,
        kind: 'syntax',
        reason: `at character ${error.at + 1}: expected ${error.expected}, found ${shown}`,
      };
    }
  }

  findEnd(): JsonStart {
    try {
      this.#readValue();
      return { state: 'whole', end: this.#at };
    } catch (error) {
      if (!(error instanceof WrongJson)) throw error;
      return error.at >= this.#text.length ? { state: 'cut' } : { state: 'wrong', at: error.at };
    }
  }

  #readValue(): unknown {
    const open: { readonly container: Container; name: string }[] = [];
    for (;;) {
      this.#skipSpace();
      let value: unknown;
      const code = this.#text[this.#at];
      if (code === '{' || code === '[') {
        this.#at += 1;
        const container: Container = code === '{' ? {} : [];
        this.#skipSpace();
        if (this.#text[this.#at] === (code === '{' ? '}' : ']')) {
          this.#at += 1;
          value = container;
        } else {
          open.push({ container, name: code === '{' ? this.#readName() : '' });
          continue;
        }
      } else value = this.#readScalar();
      // Put the value into its container, and close each container that ends here.
      for (;;) {
        const top = open.at(-1);
        if (top === undefined) return value;
        const { container } = top;
        if (Array.isArray(container)) container.push(value);
        else define(container, top.name, value);
        this.#skipSpace();
        const next = this.#text[this.#at];
        if (next === ',') {
          this.#at += 1;
          if (!Array.isArray(container)) {
            this.#skipSpace();
            top.name = this.#readName();
          }
          break;
        }
        if (next !== (Array.isArray(container) ? ']' : '}'))
          throw new WrongJson(this.#at, Array.isArray(container) ? '"," or "]"' : '"," or "}"');
        this.#at += 1;
        open.pop();
        value = container;
      }
    }
  }

  #readName(): string {
    if (this.#text[this.#at] !== '"') throw new WrongJson(this.#at, 'a name in double quotes');
    const name = this.#readString();
    this.#skipSpace();
    if (this.#text[this.#at] !== ':') throw new WrongJson(this.#at, '":"');
    this.#at += 1;
    return name;
  }

  #readScalar(): unknown {
    if (this.#text[this.#at] === '"') return this.#readString();
    const scalar = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/uy;
    scalar.lastIndex = this.#at;
    const token = scalar.exec(this.#text)?.[0];
    if (token === undefined) {
      // A prefix that ends with the text may be the start of a value.
      const rest = this.#text.slice(this.#at, this.#at + 6);
      const isCut = ['-', 'true', 'false', 'null'].some((word) => rest !== '' && word.startsWith(rest));
      throw new WrongJson(isCut ? this.#text.length : this.#at, 'a value');
    }
    this.#at += token.length;
    switch (token) {
      case 'true':
        return true;
      case 'false':
        return false;
      case 'null':
        return null;
      default:
        return numberOrDigits(token);
    }
  }

  #readString(): string {
    const from = this.#at;
    let at = from + 1;
    for (;;) {
      const code = this.#text.charCodeAt(at);
      if (code === 0x22) break;
      if (Number.isNaN(code)) throw new WrongJson(this.#text.length, 'a closing quote');
      if (code < 0x20) throw new WrongJson(at, 'no control character in a text');
      if (code !== 0x5c) {
        at += 1;
        continue;
      }
      const escape = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/uy;
      escape.lastIndex = at;
      const length = escape.exec(this.#text)?.[0].length;
      if (length === undefined) {
        const isCut = /^\\(?:u[0-9a-fA-F]{0,3})?$/u.test(this.#text.slice(at, at + 6));
        throw new WrongJson(isCut ? this.#text.length : at, 'an escape of JSON');
      }
      at += length;
    }
    this.#at = at + 1;
    return JSON.parse(this.#text.slice(from, at + 1)) as string;
  }

  #skipSpace(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at += 1;
    }
  }
}

/** Sets a field as JSON.parse does: the name `__proto__` is a field too. */
function define(container: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== '__proto__') container[name] = value;
  else Object.defineProperty(container, name, { value, writable: true, enumerable: true, configurable: true });
}
