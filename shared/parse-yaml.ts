/**
 * Parses YAML that others may have written. The only importer of the parser of `yaml`: every problem is CONFIG_INVALID with its lines.
 *
 * Refused before the parser builds nodes: text above MAX_YAML_BYTES, and nesting above MAX_DEPTH (the parser recurses; at some thousand
 * levels V8 ends the process, which no caller can catch). Refused after it: duplicate keys (compared in linear time), unknown aliases, and
 * aliases that expand to too many values or contain themselves.
 */
import {
  Composer,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  Parser,
  type Alias,
  type CST,
  type Document,
  type Node,
} from 'yaml';
import { TrainerError } from './errors.ts';

/** Largest text, bytes. */
const MAX_YAML_BYTES = 2 * 1024 * 1024;
/** Most collections inside each other. */
const MAX_DEPTH = 100;
/** Most anchors and aliases: the parser compares each alias with all of them. */
const MAX_NAMES = 2_000;
/** Most values after all aliases are expanded. */
const MAX_VALUES = 1_000_000;
/** Most problems of one text that are listed. */
const MAX_LISTED = 20;

/** A parsed text: its value, and the line of each part. */
export interface YamlDocument {
  readonly value: unknown;
  /** Line (1-based) of the value at a place, or of the nearest enclosing value that exists. */
  lineOf(place: readonly PropertyKey[]): number;
}

/**
 * @param origin names the text in messages: a file, or `--set a.b`
 * @throws CONFIG_INVALID with all problems, each with its line
 */
export function parseYaml(text: string, origin: string): YamlDocument {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_YAML_BYTES)
    throw new TrainerError(
      'CONFIG_INVALID',
      `${origin}: expected YAML of at most ${MAX_YAML_BYTES} B, found ${bytes} B`,
    );
  const lines = new LineCounter();
  const lineAt = (offset: number): number => Math.max(1, lines.linePos(offset).line);
  const invalid = (problems: readonly string[], cause?: unknown): TrainerError =>
    new TrainerError('CONFIG_INVALID', `${origin} is not YAML:\n${listed(problems)}`, { cause });

  const tokens = [...new Parser(lines.addNewLine).parse(text)];
  const tooDeep = findTooDeep(tokens);
  if (tooDeep !== undefined)
    throw invalid([`line ${lineAt(tooDeep)}: more than ${MAX_DEPTH} collections inside each other`]);
  const documents = [...new Composer({ uniqueKeys: false }).compose(tokens, true, text.length)];
  const document = documents[0]!;
  const problems = document.errors.map(({ pos, message }) => `line ${lineAt(pos[0])}: ${message}`);
  const second = documents[1]?.range[0];
  if (second !== undefined) problems.push(`line ${lineAt(second)}: expected one document, found another one`);
  problems.push(...new Inspection(lineAt).inspect(document));
  if (problems.length > 0) throw invalid(problems);

  return {
    value: document.toJS({ maxAliasCount: -1 }), // the inspection has bounded the expansion
    lineOf(place) {
      for (let depth = place.length; depth > 0; depth--) {
        const found: unknown = document.getIn(place.slice(0, depth), true);
        if (isNode(found) && found.range) return lineAt(found.range[0]);
      }
      return 1;
    },
  };
}

/** Offset of the first collection that lies too deep. Does not recurse. */
function findTooDeep(tokens: readonly CST.Token[]): number | undefined {
  const open: { readonly token: CST.Token | null | undefined; readonly depth: number }[] = tokens.map((token) => ({
    token,
    depth: 0,
  }));
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { token, depth } = next;
    if (token === null || token === undefined) continue;
    if (token.type === 'document') open.push({ token: token.value, depth });
    if (!('items' in token)) continue;
    if (depth === MAX_DEPTH) return token.offset;
    for (const item of token.items)
      for (const part of [item.key, item.value]) open.push({ token: part, depth: depth + 1 });
  }
  return undefined;
}

/** One walk over a document in its order: duplicate keys, anchors and aliases, and the number of values after expansion. */
class Inspection {
  readonly #lineAt: (offset: number) => number;
  readonly #problems: string[] = [];
  /** Values below each anchor; undefined while its node is being walked. */
  readonly #anchors = new Map<string, number | undefined>();
  #numNames = 0;

  constructor(lineAt: (offset: number) => number) {
    this.#lineAt = lineAt;
  }

  /** @returns the problems, each with its line */
  inspect({ contents }: Document.Parsed): readonly string[] {
    const size = this.#walk(contents);
    if (this.#numNames > MAX_NAMES) this.#problems.push(`more than ${MAX_NAMES} anchors and aliases`);
    if (size > MAX_VALUES)
      this.#problems.push(`expands to more than ${MAX_VALUES} values, the largest part at line ${this.#largestLine}`);
    return this.#problems;
  }

  #largest = 0;
  #largestLine = 1;

  /** @returns the number of values below a node, aliases expanded */
  #walk(node: unknown): number {
    if (isAlias(node)) return this.#walkAlias(node);
    const anchor = isScalar(node) || isCollection(node) ? node.anchor : undefined;
    if (anchor !== undefined) {
      this.#numNames += 1;
      this.#anchors.set(anchor, undefined);
    }
    let size = 1;
    if (isMap(node)) {
      const keys = new Set<unknown>();
      for (const { key, value } of node.items) {
        if (isScalar(key) && keys.has(key.value))
          this.#report(key, `map keys must be unique: ${JSON.stringify(key.value)} is there twice`);
        if (isScalar(key)) keys.add(key.value);
        else if (isNode(key)) this.#report(key, 'expected a plain value as key, found a collection or an alias');
        size += this.#walk(key) + this.#walk(value);
      }
    } else if (isSeq(node)) for (const item of node.items) size += this.#walk(item);
    if (anchor !== undefined) this.#anchors.set(anchor, size);
    return size;
  }

  #walkAlias(alias: Alias): number {
    this.#numNames += 1;
    const name = alias.source;
    const size = this.#anchors.get(name);
    if (size !== undefined) {
      if (size > this.#largest) [this.#largest, this.#largestLine] = [size, this.#lineAt(alias.range?.[0] ?? 0)];
      return size;
    }
    this.#report(
      alias,
      this.#anchors.has(name) ? `*${name} contains itself` : `no anchor &${name} stands before the alias *${name}`,
    );
    return 1;
  }

  #report(node: Node, problem: string): void {
    this.#problems.push(`line ${this.#lineAt(node.range?.[0] ?? 0)}: ${problem}`);
  }
}

function listed(problems: readonly string[]): string {
  const rest = problems.length - MAX_LISTED;
  const lines = problems.slice(0, MAX_LISTED).map((problem) => `  ${problem}`);
  return [...lines, ...(rest > 0 ? [`  and ${rest} more`] : [])].join('\n');
}
