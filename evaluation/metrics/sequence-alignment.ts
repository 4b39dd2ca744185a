/** Distances and common subsequences of two lists of tokens. */

/** Levenshtein distance: the fewest insertions, deletions and substitutions. O(n·m) time, O(m) memory. */
export function levenshtein(a: readonly string[], b: readonly string[]): number {
  let previous = Uint32Array.from({ length: b.length + 1 }, (_, column) => column);
  let current = new Uint32Array(b.length + 1);
  for (let row = 1; row <= a.length; row++) {
    current[0] = row;
    for (let column = 1; column <= b.length; column++) {
      const substituted = previous[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1);
      current[column] = Math.min(substituted, previous[column]! + 1, current[column - 1]! + 1);
    }
    [previous, current] = [current, previous];
  }
  return previous[b.length] ?? 0;
}

/** Lengths of the longest common subsequences of all prefixes: a table of (|a| + 1) × (|b| + 1), row by row. */
export function lcsTable(a: readonly number[], b: readonly number[]): Uint32Array {
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  for (let row = 1; row <= a.length; row++) {
    const at = row * width;
    const token = a[row - 1];
    for (let column = 1; column <= b.length; column++) {
      const above = table[at - width + column] ?? 0;
      const before = table[at + column - 1] ?? 0;
      table[at + column] =
        token === b[column - 1] ? table[at - width + column - 1]! + 1 : above > before ? above : before;
    }
  }
  return table;
}

/** Length of the longest common subsequence. O(n·m) time, O(m) memory. */
export function lcsLength(a: readonly number[], b: readonly number[]): number {
  const row = new Uint32Array(b.length + 1);
  for (const token of a) {
    let diagonal = 0;
    for (let column = 1; column <= b.length; column++) {
      const above = row[column]!;
      const before = row[column - 1] ?? 0;
      row[column] = token === b[column - 1] ? diagonal + 1 : above > before ? above : before;
      diagonal = above;
    }
  }
  return row[b.length] ?? 0;
}

/** Numbers for tokens, equal for equal tokens: comparing numbers is faster than comparing texts. */
export function numberTokens(...lists: readonly (readonly string[])[]): number[][] {
  const numbers = new Map<string, number>();
  return lists.map((tokens) =>
    tokens.map((token) => {
      const known = numbers.get(token);
      if (known !== undefined) return known;
      numbers.set(token, numbers.size);
      return numbers.size - 1;
    }),
  );
}
