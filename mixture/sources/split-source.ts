/**
 * A source → units of about the same size. A pure function of the files, of the first bytes of those that may be split
 * at lines, and of the footers of parquet files.
 */
import { TrainerError } from '../../shared/errors.ts';
import { isPlainLines } from './decode-content.ts';
import { HEAD_BYTES, type LineFormat } from './identify-content.ts';
import { openParquet, type RowGroupRange } from './parquet/parquet-file.ts';
import type { ResolvedFile, ResolvedSource, SourceUnit } from './resolved-source.ts';
import type { SourceAccess } from './source-access.ts';
import { hasCompressedName, peekSourceFile } from './source-file.ts';

/** Number of footers that are read at the same time. */
const NUM_AT_ONCE = 8;

/**
 * Parquet files larger than a unit are split between row groups, plain lines anywhere. Other files are one unit:
 * compressed, UTF-16, JSON over several lines, tables with quotes.
 * @param unitBytes about how many bytes of a file make a unit
 * @throws CONFIG_INVALID if unitBytes is not a whole number above 0; SOURCE_UNREADABLE, STORAGE_DENIED,
 * STORAGE_UNAVAILABLE, ABORTED
 */
export async function splitSource(
  source: ResolvedSource,
  unitBytes: number,
  access: SourceAccess,
  signal?: AbortSignal,
): Promise<readonly SourceUnit[]> {
  if (!Number.isSafeInteger(unitBytes) || unitBytes < 1)
    throw new TrainerError('CONFIG_INVALID', `unit size: expected a whole number of bytes above 0, found ${unitBytes}`);
  const units: SourceUnit[] = [];
  for (let start = 0; start < source.files.length; start += NUM_AT_ONCE) {
    const files = source.files.slice(start, start + NUM_AT_ONCE);
    const split = files.map((file, i) => splitFile(source, file, start + i, unitBytes, access, signal));
    for (const ofFile of await Promise.all(split)) units.push(...ofFile);
  }
  return units;
}

async function splitFile(
  source: ResolvedSource,
  file: ResolvedFile,
  index: number,
  unitBytes: number,
  access: SourceAccess,
  signal: AbortSignal | undefined,
): Promise<readonly SourceUnit[]> {
  if (file.bytes <= unitBytes) return [wholeFile(file, index)];
  if (isLineFormat(source) && !hasCompressedName(file)) {
    const head = await (
      await peekSourceFile(source, file, access)
    ).readRange(0, Math.min(file.bytes, HEAD_BYTES), signal);
    return isPlainLines(head, source.format) ? splitAtBytes(file, index, unitBytes) : [wholeFile(file, index)];
  }
  if (source.format !== 'parquet') return [wholeFile(file, index)];
  const { groups } = await openParquet(await peekSourceFile(source, file, access), { signal });
  return splitRowGroups(index, groups, unitBytes);
}

/** Formats in which each line break ends a record, so that a record's start can be found from any byte. */
function isLineFormat(source: ResolvedSource): source is ResolvedSource & { readonly format: LineFormat } {
  const { format, quotes } = source;
  return format === 'jsonl' || format === 'text' || ((format === 'csv' || format === 'tsv') && !quotes);
}

function splitAtBytes(file: ResolvedFile, index: number, unitBytes: number): SourceUnit[] {
  const count = Math.max(1, Math.round(file.bytes / unitBytes));
  if (count === 1) return [wholeFile(file, index)];
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor((file.bytes * i) / count);
    const to = Math.floor((file.bytes * (i + 1)) / count);
    return { file: index, part: { kind: 'bytes', from, to }, bytes: to - from };
  });
}

/** Units of whole row groups. @param file index of the file @param groups its row groups, in order */
function splitRowGroups(file: number, groups: readonly RowGroupRange[], unitBytes: number): SourceUnit[] {
  const units: SourceUnit[] = [];
  let from = 0;
  let bytes = 0;
  for (const [i, group] of groups.entries()) {
    bytes += group.bytes;
    const next = groups[i + 1];
    // Add the next group if the unit is then nearer to its size.
    if (next !== undefined && bytes + next.bytes / 2 <= unitBytes) continue;
    units.push({ file, part: { kind: 'rows', from, to: group.to }, bytes });
    from = group.to;
    bytes = 0;
  }
  return units;
}

function wholeFile({ bytes }: ResolvedFile, index: number): SourceUnit {
  return { file: index, part: { kind: 'whole' }, bytes };
}
