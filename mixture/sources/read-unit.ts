/**
 * A unit of a source → batches of records, streaming. Memory holds one chunk of a file and one record, for any file
 * size.
 */
import { assertInvariant } from '../../shared/errors.ts';
import { readParquetUnit } from './parquet/parquet-unit.ts';
import type { ResolvedSource, SourceUnit } from './resolved-source.ts';
import type { SourceAccess } from './source-access.ts';
import { openSourceFile } from './source-file.ts';
import { MAX_RECORD_BYTES, type RecordBatch, type UnitOptions } from './source-record.ts';
import { readTextUnit } from './text-unit.ts';
import { readTfrecords } from './tfrecord/read-tfrecords.ts';

export interface ReadOptions {
  /** Columns that the source must have. Of parquet files only these are read. */
  readonly requiredFields?: readonly string[];
  /** Larger records are malformed. Default: MAX_RECORD_BYTES. */
  readonly maxRecordBytes?: number;
  readonly signal?: AbortSignal;
  /** Called with the bytes of each chunk that was read, before decompression. */
  readonly onBytes?: (numBytes: number) => void;
  /** Called repeatedly while a file is being downloaded before it is read. */
  readonly onDownload?: () => void;
  readonly access: SourceAccess;
}

/**
 * All records of a unit, in order. Malformed records are values.
 * @throws SOURCE_UNREADABLE if a file is missing, changed or cannot be decoded; CONFIG_INVALID if a required column is
 * missing; ABORTED
 */
export async function* readUnit(
  source: ResolvedSource,
  unit: SourceUnit,
  {
    requiredFields = [],
    maxRecordBytes = MAX_RECORD_BYTES,
    signal,
    onBytes = () => undefined,
    onDownload,
    access,
  }: ReadOptions,
): AsyncGenerator<RecordBatch> {
  const resolved = source.files[unit.file];
  assertInvariant(resolved !== undefined, `unit of file ${unit.file} of ${source.files.length}`);
  const options: UnitOptions = { requiredFields, maxRecordBytes, signal, onBytes };
  const file = await openSourceFile(source, resolved, access, signal, onDownload);
  switch (source.format) {
    case 'parquet':
      yield* readParquetUnit(file, unit.part, options);
      return;
    case 'tfrecord':
      yield* readTfrecords(file, options);
      return;
    case 'jsonl':
    case 'text':
    case 'csv':
    case 'tsv':
      yield* readTextUnit(file, { format: source.format, quotes: source.quotes, part: unit.part }, options);
  }
}

/** All records of all files, in order. @throws as readUnit */
export async function* readSource(source: ResolvedSource, options: ReadOptions): AsyncGenerator<RecordBatch> {
  for (const [file, { bytes }] of source.files.entries())
    yield* readUnit(source, { file, part: { kind: 'whole' }, bytes }, options);
}
