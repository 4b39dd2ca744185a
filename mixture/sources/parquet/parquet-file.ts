/** The footer of a parquet file: its columns and row groups. */
import { parquetMetadataAsync, parquetSchema, type AsyncBuffer, type FileMetaData } from 'hyparquet';
import { toTrainerError, TrainerError } from '../../../shared/errors.ts';
import type { SourceFileBytes } from '../source-file.ts';
import { describeOther } from '../decode-content.ts';
import { HEAD_BYTES } from '../identify-content.ts';
import { missingColumns } from '../source-record.ts';
import { shapeOf, type ColumnShape } from './parquet-values.ts';

/** A shorter file is not parquet: magic, length of the footer, magic. */
const MIN_BYTES = 12;
/** The first read of a footer has this many bytes. Most footers fit. */
const FIRST_FETCH_BYTES = 64 * 1024;
const MAGIC = 'PAR1';

export interface ParquetFile {
  readonly buffer: AsyncBuffer;
  readonly metadata: FileMetaData;
  /** Column names at the top of the schema. */
  readonly columns: readonly string[];
  /** Columns with raw values, by name. */
  readonly shapes: ReadonlyMap<string, ColumnShape>;
  readonly groups: readonly RowGroupRange[];
}

/** A row group: rows `from` … `to` - 1 of the file. */
export interface RowGroupRange {
  readonly from: number;
  readonly to: number;
  /** Compressed size of all its columns. */
  readonly bytes: number;
}

/**
 * @param onBytes called with the bytes of each read @throws SOURCE_UNREADABLE if it is not a complete parquet file;
 * ABORTED
 */
export async function openParquet(
  file: SourceFileBytes,
  {
    signal,
    onBytes,
  }: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (numBytes: number) => void } = {},
): Promise<ParquetFile> {
  const buffer: AsyncBuffer = {
    byteLength: file.bytes,
    async slice(start, end = file.bytes) {
      const bytes = await file.readRange(start, end - start, signal);
      onBytes?.(bytes.length);
      const isAll = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
      return (isAll ? bytes.buffer : Uint8Array.from(bytes).buffer) as ArrayBuffer;
    },
  };
  await checkMagic(file, buffer);
  try {
    const metadata = await parquetMetadataAsync(buffer, { initialFetchSize: FIRST_FETCH_BYTES, geoparquet: false });
    const { children } = parquetSchema(metadata);
    const columns = children.map(({ element }) => element.name);
    const shapes = new Map<string, ColumnShape>();
    for (const child of children) {
      const shape = shapeOf(child);
      if (shape !== undefined) shapes.set(child.element.name, shape);
    }
    return { buffer, metadata, columns, shapes, groups: groupsOf(metadata) };
  } catch (error) {
    throw damaged(file.name, 'its footer', error);
  }
}

async function checkMagic(file: SourceFileBytes, buffer: AsyncBuffer): Promise<void> {
  const what = `source file ${file.name} cannot be read: expected a parquet file`;
  const fail = (found: string): TrainerError => new TrainerError('SOURCE_UNREADABLE', `${what}${found}`);
  const size = file.bytes;
  const last = Buffer.from(await buffer.slice(Math.max(0, size - MAGIC.length), size)).toString('latin1');
  if (size >= MIN_BYTES && last === MAGIC) return;
  const head = Buffer.from(await buffer.slice(0, Math.min(size, HEAD_BYTES)));
  const first = head.toString('latin1', 0, MAGIC.length);
  if (size >= MIN_BYTES && (first === 'PARE' || last === 'PARE'))
    throw fail(' without encryption, found an encrypted one');
  const other = describeOther(head);
  if (other !== undefined) throw fail(`, found ${other.what}; ${other.remedy}`);
  if (size < MIN_BYTES) throw fail(`, found ${size} B`);
  throw fail(
    first === MAGIC
      ? ` that ends with ${MAGIC}, found one that is truncated at ${size} B; download or write it again`
      : `, found one that starts with ${JSON.stringify(first)}; give its format`,
  );
}

function groupsOf({ row_groups: groups }: FileMetaData): RowGroupRange[] {
  let to = 0;
  return groups.map((group) => {
    const from = to;
    to += Number(group.num_rows);
    const bytes = group.columns.reduce((sum, { meta_data: of }) => sum + Number(of?.total_compressed_size ?? 0), 0);
    return { from, to, bytes };
  });
}

/**
 * The columns to read for these fields. A field `a.b` that is not a column is part of column `a`.
 * @throws CONFIG_INVALID with the nearest columns, if some are missing
 */
export function chooseColumns(name: string, columns: readonly string[], fields: readonly string[]): string[] {
  const chosen = new Set<string>();
  const missing: string[] = [];
  for (const field of fields) {
    const column = columns.includes(field) ? field : field.split('.', 1)[0]!;
    if (columns.includes(column)) chosen.add(column);
    else missing.push(field);
  }
  if (missing.length === 0) return fields.length === 0 ? [...columns] : [...chosen];
  throw missingColumns(name, missing, columns);
}

/** Any error that hyparquet throws for invalid bytes. */
export function damaged(name: string, part: string, thrown: unknown): TrainerError {
  if (thrown instanceof TrainerError) return thrown;
  const { message } = toTrainerError(thrown);
  return new TrainerError(
    'SOURCE_UNREADABLE',
    `source file ${name} cannot be read: ${part} is damaged or of an unknown kind: ${message}`,
    { cause: thrown },
  );
}
