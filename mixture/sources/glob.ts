/**
 * Globs of file names: `*` and `?` match within a folder, `**` matches across folders, `{a,b}` matches a or b. Other
 * characters match themselves.
 *
 * Globs in a repository of a hub also have classes: `[a-c]` matches one of these characters, `[!a-c]` another one. They
 * are those of Python's fnmatch, by which data sets name their files: `]` at the start is a member, `^` is an ordinary
 * one, an empty range matches nothing, a `[` that is not closed matches itself. In paths, `[` is an ordinary character.
 */

export interface GlobSyntax {
  readonly classes?: boolean;
}

const CLASS = String.raw`\[!?\]?[^\]]*\]`;
const PLAIN_PARTS = /\*\*\/|\*\*|\*|\?|\{[^{}]*\}|[^*?{]+|\{/gu;
const PARTS = new RegExp(String.raw`\*\*\/|\*\*|\*|\?|${CLASS}|\{[^{}]*\}|[^*?{[]+|[{[]`, 'gu');
const PLAIN_GLOB = /[*?]|\{[^{}]*,[^{}]*\}/u;
const GLOB = new RegExp(`${PLAIN_GLOB.source}|${CLASS}`, 'u');

export function isGlob(pattern: string, { classes = false }: GlobSyntax = {}): boolean {
  return (classes ? GLOB : PLAIN_GLOB).test(pattern);
}

/** Tests whole paths with `/`. */
export function createGlob(pattern: string, { classes = false }: GlobSyntax = {}): (path: string) => boolean {
  const expression = new RegExp(`^${toSource(pattern, classes ? PARTS : PLAIN_PARTS)}$`, 'su');
  return (path) => expression.test(path);
}

/** The folder that contains all matches, without a trailing slash. '' is the top. */
export function globFolder(pattern: string, { classes = false }: GlobSyntax = {}): string {
  const fixed = pattern.slice(0, pattern.search(classes ? /[*?{[]|$/u : /[*?{]|$/u));
  return fixed.slice(0, Math.max(0, fixed.lastIndexOf('/')));
}

function toSource(pattern: string, parts: RegExp): string {
  return [...pattern.matchAll(parts)].map(([part]) => toRegExp(part, parts)).join('');
}

function toRegExp(part: string, parts: RegExp): string {
  if (part === '**/') return '(?:[^/]+/)*';
  if (part === '**') return '.*';
  if (part === '*') return '[^/]*';
  if (part === '?') return '[^/]';
  if (parts === PARTS && part.startsWith('[') && part.length > 1) return toClass(part.slice(1, -1));
  // A choice may contain stars itself.
  if (part.startsWith('{') && part.includes(','))
    return `(?:${part
      .slice(1, -1)
      .split(',')
      .map((choice) => toSource(choice, parts))
      .join('|')})`;
  return escape(part);
}

/** @param members without the brackets */
function toClass(members: string): string {
  const isNegated = members.startsWith('!');
  const characters = Array.from(isNegated ? members.slice(1) : members);
  const ranges: string[] = [];
  for (let i = 0; i < characters.length; i++) {
    const first = characters[i]!;
    const last = characters[i + 1] === '-' ? characters[i + 2] : undefined;
    if (last !== undefined) i += 2;
    if (last === undefined || first.codePointAt(0)! <= last.codePointAt(0)!)
      ranges.push(last === undefined ? escapeMember(first) : `${escapeMember(first)}-${escapeMember(last)}`);
  }
  if (isNegated) return `[^${ranges.join('')}/]`;
  return ranges.length === 0 ? '(?!)' : `(?!/)[${ranges.join('')}]`;
}

function escapeMember(character: string): string {
  return /[\\\]^[-]/u.test(character) ? `\\${character}` : character;
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/gu, '\\$&');
}
