/**
 * Made-up rows of each task with the types of all their columns, for tests that need files of real shapes (a hub of
 * parquet files, a folder of TSV). `parquetSchema` and `parquetColumns` give the schema and the columns that
 * hyparquet-writer needs.
 */
import type { SchemaElement } from 'hyparquet';
import { assertInvariant } from '../../../shared/errors.ts';
import type { SourceFields, TextPair } from '../task.ts';
import { C4, C4_FACTS } from './c4.ts';
import { parseColumnType, type ColumnType, type Columns } from './column-type.ts';
import { EXMIX_TASKS } from './exmix.ts';
import { loadMadeUpRows, MADE_UP_GROUPS, type MadeUpRows } from './made-up-rows.ts';

export interface TaskFixture {
  readonly task: string;
  /** All columns of the source. */
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly rows: readonly SourceFields[];
  /**
   * The examples of all rows, in order. A row that the task leaves out has none; a document of C4 has empty targets.
   */
  readonly expected: readonly TextPair[];
}

/** One fixture for each of the 107 tasks, C4 last. */
export function taskFixtures(): TaskFixture[] {
  const madeUp = new Map(MADE_UP_GROUPS.flatMap((group) => [...loadMadeUpRows(group)]));
  return [...EXMIX_TASKS, { name: C4.name, columns: C4_FACTS.columns }].map(({ name, columns }) =>
    toFixture(name, columns, madeUp.get(name)),
  );
}

function toFixture(task: string, ownColumns: Columns, madeUp: MadeUpRows | undefined): TaskFixture {
  assertInvariant(madeUp !== undefined, `task ${task} has made-up rows`);
  const columns = { ...ownColumns, ...madeUp.fullColumns, ...madeUp.otherColumns };
  return {
    task,
    columns: Object.entries(columns).map(([name, type]) => ({ name, type })),
    rows: madeUp.rows,
    expected: madeUp.expected,
  };
}

/** The parquet schema of columns, as Arrow writes it: lists have three levels, and everything is nullable. */
export function parquetSchema(columns: TaskFixture['columns']): SchemaElement[] {
  return [
    { name: 'schema', num_children: columns.length },
    ...columns.flatMap(({ name, type }) => elementsOf(name, parseColumnType(type))),
  ];
}

const LEAVES = {
  string: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
  bool: { type: 'BOOLEAN' },
  int32: { type: 'INT32' },
  int64: { type: 'INT64' },
  float32: { type: 'FLOAT' },
  float64: { type: 'DOUBLE' },
} as const;

function elementsOf(name: string, type: ColumnType): SchemaElement[] {
  const optional = { name, repetition_type: 'OPTIONAL' } as const;
  if (type.kind === 'scalar') return [{ ...optional, ...LEAVES[type.scalar] }];
  if (type.kind === 'list')
    return [
      { ...optional, converted_type: 'LIST', num_children: 1 },
      { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
      ...elementsOf('element', type.element),
    ];
  const members = type.members.flatMap(([member, inner]) => elementsOf(member, inner));
  return [{ ...optional, num_children: type.members.length }, ...members];
}

/** A value as the parquet writer expects it: int64 as bigint, absence as null. */
function parquetValue(type: ColumnType, value: unknown): unknown {
  if (value === null || value === undefined) return null;
  if (type.kind === 'scalar') return type.scalar === 'int64' ? BigInt(Number(value)) : value;
  if (type.kind === 'list')
    return Array.isArray(value) ? value.map((element) => parquetValue(type.element, element)) : value;
  const struct = value as Readonly<Record<string, unknown>>;
  return Object.fromEntries(type.members.map(([name, member]) => [name, parquetValue(member, struct[name])]));
}

/** The columns of rows, for `parquetWriteBuffer({ columnData, schema: parquetSchema(columns) })`. */
export function parquetColumns({
  columns,
  rows,
}: Pick<TaskFixture, 'columns' | 'rows'>): { name: string; data: unknown[] }[] {
  return columns.map(({ name, type }) => {
    const parsed = parseColumnType(type);
    return { name, data: rows.map((row) => parquetValue(parsed, row[name])) };
  });
}
