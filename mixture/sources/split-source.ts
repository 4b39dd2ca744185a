/** A source → units of about the same size, a pure function of its files: text lines by byte range, else whole files. */
import { TrainerError } from '../../shared/errors.ts';
import type { ResolvedFile, ResolvedSource, SourceUnit } from './resolved-source.ts';
import type { SourceAccess } from './source-access.ts';

/**
 * @param unitBytes about how many bytes of a file make a unit; the last of a file is not smaller than half of it
 * @throws CONFIG_INVALID where unitBytes is not a whole number above 0
 */
// eslint-disable-next-line @typescript-eslint/require-await
export async function splitSource(
  source: ResolvedSource,
  unitBytes: number,
  _access: SourceAccess,
): Promise<readonly SourceUnit[]> {
  if (!Number.isSafeInteger(unitBytes) || unitBytes < 1)
    throw new TrainerError('CONFIG_INVALID', `unit size: expected a whole number of bytes above 0, found ${unitBytes}`);
  return source.files.flatMap((file, index) =>
    isCutAtLines(source, file) ? splitAtBytes(file, index, unitBytes) : [wholeFile(file, index)],
  );
}

/** Whether a line break always ends a record and its place can be found from any byte. */
function isCutAtLines({ format, quotes }: ResolvedSource, { name }: ResolvedFile): boolean {
  if (name.endsWith('.gz')) return false;
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

function wholeFile({ bytes }: ResolvedFile, index: number): SourceUnit {
  return { file: index, part: { kind: 'whole' }, bytes };
}
