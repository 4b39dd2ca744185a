/** A list in a sentence, of bounded length: messages and log lines must not grow with the number of workers. Pure. */

/** Most names that are written out. */
const MAX_NAMED = 12;

interface ListOptions {
  readonly most?: number;
  /** Between all names, also the last two; `; ` for names that contain commas. Default: commas and `and`. */
  readonly separator?: string;
}

/** `a`, `a and b`, `a, b and c`; of more than `most` the first ones: `a, b and 3 more`. */
export function listNames(
  names: readonly (string | number)[],
  { most = MAX_NAMED, separator }: ListOptions = {},
): string {
  const named = names.length > most ? [...names.slice(0, most), `${names.length - most} more`] : names;
  if (separator !== undefined || named.length < 2) return named.join(separator);
  return `${named.slice(0, -1).join(', ')} and ${named.at(-1)!}`;
}

/** `rank 2`, `ranks 0, 1 and 3`. */
export function listRanks(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? 'rank' : 'ranks'} ${listNames(ranks)}`;
}
