/** Differences between computed and expected arrays; sums in float64. Pure. */

/** Rows of a matrix that are compared. */
export interface ComparedRows {
  readonly numRows: number;
  readonly isCompared: (row: number) => boolean;
}

/** The largest absolute difference; NaN where one of the two is NaN or their lengths differ. */
export function largestDifference(
  found: Float32Array,
  expected: Float32Array,
  rows: ComparedRows = { numRows: 1, isCompared: () => true },
): number {
  if (found.length !== expected.length) return Number.NaN;
  const width = found.length / rows.numRows;
  let largest = 0;
  for (let row = 0; row < rows.numRows; row++) {
    if (!rows.isCompared(row)) continue;
    for (let i = row * width; i < (row + 1) * width; i++)
      largest = Math.max(largest, Math.abs(found[i]! - expected[i]!));
  }
  return largest;
}

/** |found − expected| / |expected| over all pairs together, in the L2 norm. */
export function relativeNorm(pairs: readonly { found: Float32Array; expected: Float32Array }[]): number {
  let squaredDifference = 0;
  let squared = 0;
  for (const { found, expected } of pairs)
    for (let i = 0; i < expected.length; i++) {
      squaredDifference += (found[i]! - expected[i]!) ** 2;
      squared += expected[i]! ** 2;
    }
  return Math.sqrt(squaredDifference / squared);
}
