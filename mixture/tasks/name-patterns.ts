/**
 * Name patterns with `*` (any characters) and `?` (one character). They select tasks on the command line and in mixture
 * files.
 */
import { TrainerError } from '../../shared/errors.ts';
import { nearestNames } from '../../shared/nearest-names.ts';

export const isPattern = (text: string): boolean => /[*?]/u.test(text);

/** @returns the names that match, in their order. A pattern without marks matches only itself. */
export function matchNames(pattern: string, names: readonly string[]): string[] {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/gu, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  const expression = new RegExp(`^${source}$`, 'u');
  return names.filter((name) => expression.test(name));
}

/**
 * Tests whether a name matches one of the patterns. @throws NAME_UNKNOWN with all patterns that match no name, and the
 * nearest names
 */
export function createNameSelection(patterns: readonly string[], names: readonly string[]): (name: string) => boolean {
  const unknown = patterns.filter((pattern) => matchNames(pattern, names).length === 0);
  if (unknown.length > 0) {
    const rows = unknown.map((pattern) => {
      const near = isPattern(pattern) ? [] : nearestNames(pattern, names);
      return `"${pattern}"${near.length === 0 ? '' : ` (did you mean ${near.join(', ')}?)`}`;
    });
    throw new TrainerError(
      'NAME_UNKNOWN',
      `no task of the mixture is called ${rows.join(', ')}; exmix tasks lists them`,
    );
  }
  const chosen = new Set(patterns.flatMap((pattern) => matchNames(pattern, names)));
  return (name) => chosen.has(name);
}
