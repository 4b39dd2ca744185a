export * from '../worker/collective/lane-tree.ts';
/** Sum of one number per lane in the canonical tree (float64), so that logged losses have the same bits for every world size. */
export function treeSum(values: readonly number[]): number {
  let level = [...values];
  while (level.length > 1) level = level.flatMap((value, i) => (i % 2 === 0 ? [value + (level[i + 1] ?? 0)] : []));
  return level[0] ?? 0;
}
