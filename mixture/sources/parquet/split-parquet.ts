/** A parquet file → units of whole row groups of about the same size. */
import type { SourceUnit } from '../resolved-source.ts';
import type { RowGroupPlace } from './parquet-file.ts';

/** @param file index of the file @param groups its row groups, in order */
export function splitRowGroups(file: number, groups: readonly RowGroupPlace[], unitBytes: number): SourceUnit[] {
  const units: SourceUnit[] = [];
  let from = 0;
  let bytes = 0;
  for (const [i, group] of groups.entries()) {
    bytes += group.bytes;
    const next = groups[i + 1];
    // The next group goes along if the unit is nearer to its size with it than without.
    if (next !== undefined && bytes + next.bytes / 2 <= unitBytes) continue;
    units.push({ file, part: { kind: 'rows', from, to: group.to }, bytes });
    from = group.to;
    bytes = 0;
  }
  return units;
}
