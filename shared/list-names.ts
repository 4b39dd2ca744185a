/** A list in a sentence, of bounded length: messages and log lines must not grow with the number of workers. Pure. */

const MAX_NAMED = 12;

/** `a`, `a and b`, `a, b and c`; of many the first ones and how many more. */
export function nameSome(names: readonly (string | number)[]): string {
  const named = names.length > MAX_NAMED ? [...names.slice(0, MAX_NAMED), `${names.length - MAX_NAMED} more`] : names;
  return named.length < 2 ? named.join('') : `${named.slice(0, -1).join(', ')} and ${named.at(-1)!}`;
}

/** `rank 2`, `ranks 0, 1 and 3`. */
export function nameRanks(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? 'rank' : 'ranks'} ${nameSome(ranks)}`;
}
