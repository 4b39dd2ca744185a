/**
 * Globs of file names: `*` and `?` match within a folder, `**` matches across folders, `{a,b}` matches a or b. Other
 * characters match themselves.
 */

const SPECIAL = /\*\*\/|\*\*|\*|\?|\{[^{}]*\}|[^*?{]+|\{/gu;

export function isGlob(pattern: string): boolean {
  return /[*?]|\{[^{}]*,[^{}]*\}/u.test(pattern);
}

/** Tests whole paths with `/`. */
export function createGlob(pattern: string): (path: string) => boolean {
  const source = [...pattern.matchAll(SPECIAL)].map(([part]) => toRegExp(part)).join('');
  const expression = new RegExp(`^${source}$`, 'u');
  return (path) => expression.test(path);
}

/** The folder that contains all matches, without a trailing slash. '' is the top. */
export function globFolder(pattern: string): string {
  const fixed = pattern.slice(0, pattern.search(/[*?{]|$/u));
  return fixed.slice(0, Math.max(0, fixed.lastIndexOf('/')));
}

function toRegExp(part: string): string {
  if (part === '**/') return '(?:[^/]+/)*';
  if (part === '**') return '.*';
  if (part === '*') return '[^/]*';
  if (part === '?') return '[^/]';
  if (part.startsWith('{') && part.includes(','))
    return `(?:${part.slice(1, -1).split(',').map(toOneRegExp).join('|')})`;
  return escape(part);
}

/** A choice may contain stars itself. */
function toOneRegExp(choice: string): string {
  return [...choice.matchAll(SPECIAL)].map(([part]) => toRegExp(part)).join('');
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/gu, '\\$&');
}
