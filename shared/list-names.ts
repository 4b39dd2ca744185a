/** A list in a sentence, of bounded length: messages and log lines must not grow with the number of workers. Pure. */

/** Most names that are written out. */
const MAX_NAMED = 12;

interface ListOptions {
  readonly most?: number;
  /** Between names that hold commas: `; `. */
  readonly separator?: string;
}

/** `a`, `a and b`, `a, b and c`; of more than `most` the first ones: `a, b and 3 more`. */
export function listNames(
  names: readonly (string | number)[],
  { most = MAX_NAMED, separator = ', ' }: ListOptions = {},
): string {
  const named = names.length > most ? [...names.slice(0, most), `${names.length - most} more`] : names;
  return named.length < 2 ? named.join('') : `${named.slice(0, -1).join(separator)} and ${named.at(-1)!}`;
}

/** `rank 2`, `ranks 0, 1 and 3`. */
export function listRanks(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? 'rank' : 'ranks'} ${listNames(ranks)}`;
}
