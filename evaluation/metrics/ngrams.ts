/** Counts of n-grams of a list of tokens. */

/** A separator that no token holds: tokens come from splitting at white space. */
const SEPARATOR = '\u001f';

/** How often each n-gram occurs. */
export function countNgrams(tokens: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let start = 0; start + order <= tokens.length; start++) {
    let gram = tokens[start] ?? '';
    for (let next = start + 1; next < start + order; next++) gram += SEPARATOR + (tokens[next] ?? '');
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

/** Each n-gram with the largest count that one of the references has. */
export function maximumCounts(references: readonly ReadonlyMap<string, number>[]): ReadonlyMap<string, number> {
  const [first, ...others] = references;
  if (first === undefined || others.length === 0) return first ?? new Map<string, number>();
  const most = new Map(first);
  for (const counts of others) {
    for (const [gram, count] of counts) most.set(gram, Math.max(most.get(gram) ?? 0, count));
  }
  return most;
}

/** Sum over n-grams of the smaller of the two counts. */
export function countCommon(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  const [fewer, more] = a.size <= b.size ? [a, b] : [b, a];
  let common = 0;
  for (const [gram, count] of fewer) common += Math.min(count, more.get(gram) ?? 0);
  return common;
}

/** The length nearest to `length`; the shorter one on a tie. */
export function closestLength(lengths: readonly number[], length: number): number {
  return lengths.reduce((best, other) => {
    const difference = Math.abs(other - length) - Math.abs(best - length);
    return difference < 0 || (difference === 0 && other < best) ? other : best;
  });
}
