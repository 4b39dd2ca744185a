/**
 * Rows of a parquet file → batches of records. Only the required columns are read, one row group at a time. Memory
 * holds these columns of one row group, decoded.
 */
import { parquetRead } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { TrainerError } from '../../../shared/errors.ts';
import type { SourceUnit } from '../resolved-source.ts';
import type { SourceFileBytes } from '../source-file.ts';
import type { RecordBatch, SourceRecord, UnitOptions } from '../source-record.ts';
import { chooseColumns, damaged, openParquet, type ParquetFile, type RowGroupRange } from './parquet-file.ts';
import { PARSERS, PlainConverter, toRawSchema, type ColumnShape } from './parquet-values.ts';

const BATCH_ROWS = 1_000;

/** @throws SOURCE_UNREADABLE, CONFIG_INVALID if a required column is missing, ABORTED */
export async function* readParquetUnit(
  file: SourceFileBytes,
  part: SourceUnit['part'],
  options: UnitOptions,
): AsyncGenerator<RecordBatch> {
  const { signal, onBytes } = options;
  const parquet = await openParquet(file, { signal, onBytes });
  const columns = chooseColumns(file.name, parquet.columns, options.requiredFields);
  const from = part.kind === 'rows' ? part.from : 0;
  const to = part.kind === 'rows' ? part.to : Infinity;
  const converter = new PlainConverter();
  for (const group of parquet.groups) {
    if (group.from < from || group.to > to || group.to === group.from) continue;
    const values = await readGroup(file.name, parquet, group, columns);
    for (let start = group.from; start < group.to; start += BATCH_ROWS) {
      const batch: SourceRecord[] = [];
      for (let row = start; row < Math.min(group.to, start + BATCH_ROWS); row++)
        batch.push(toRecord(file.name, row, values, row - group.from, converter, options.maxRecordBytes));
      yield batch;
    }
  }
}

type Column = readonly [name: string, values: ArrayLike<unknown>, shape: ColumnShape | undefined];

/** The decoded columns of a row group. */
async function readGroup(
  name: string,
  { buffer, metadata, shapes }: ParquetFile,
  { from, to }: RowGroupRange,
  columns: readonly string[],
): Promise<Column[]> {
  const pieces = new Map<string, { at: number; values: ArrayLike<unknown> }[]>();
  try {
    await parquetRead({
      file: buffer,
      metadata: { ...metadata, schema: toRawSchema(metadata.schema) },
      columns: [...columns],
      rowStart: from,
      rowEnd: to,
      compressors,
      parsers: PARSERS,
      geoparquet: false,
      // One call for each page; pages of a column come in order.
      onChunk: ({ columnName, columnData, rowStart }) => {
        const ofColumn = pieces.get(columnName) ?? [];
        ofColumn.push({ at: rowStart - from, values: columnData });
        pieces.set(columnName, ofColumn);
      },
    });
  } catch (error) {
    throw damaged(name, `row group of rows ${from + 1} to ${to}`, error);
  }
  return columns.map((column) => {
    const ofColumn = pieces.get(column) ?? [];
    const numValues = ofColumn.reduce((sum, { values }) => sum + values.length, 0);
    if (numValues !== to - from)
      throw new TrainerError(
        'SOURCE_UNREADABLE',
        `source file ${name} cannot be read: column ${column}, rows ${from + 1} to ${to}: expected ${to - from} values, found ${numValues}`,
      );
    const values = ofColumn.length === 1 ? ofColumn[0]!.values : joinPieces(ofColumn, numValues);
    return [column, values, shapes.get(column)];
  });
}

function joinPieces(pieces: readonly { at: number; values: ArrayLike<unknown> }[], length: number): unknown[] {
  const joined = new Array<unknown>(length);
  for (const { at, values } of pieces) for (let i = 0; i < values.length; i++) joined[at + i] = values[i];
  return joined;
}

function toRecord(
  file: string,
  row: number,
  columns: readonly Column[],
  index: number,
  converter: PlainConverter,
  maxRecordBytes: number,
): SourceRecord {
  const fields: Record<string, unknown> = {};
  converter.reset();
  for (const [name, values, shape] of columns) {
    fields[name] = converter.convert(values[index], shape);
    if (converter.problem !== undefined)
      return { file, row: row + 1, ok: false, rows: 1, reason: `column "${name}" ${converter.problem}` };
  }
  if (converter.size > maxRecordBytes)
    return { file, row: row + 1, ok: false, rows: 1, reason: `the row is longer than ${maxRecordBytes} B` };
  return { file, row: row + 1, ok: true, fields };
}
