/** The state of a run as text: facts in lines, then a table for each list, as `exmix status` prints them. Pure. */
import { formatTable, type Cell } from './text-table.ts';

type Fields = Readonly<Record<string, unknown>>;

/** @param view the answer of a coordinator, or what the journal says */
export function formatStatus(view: Fields): string {
  const shown = Object.entries(spreadValidation(view)).filter(([, value]) => !isEmpty(value));
  const facts = shown.filter(([, value]) => rowsOf(value) === undefined);
  const width = Math.max(0, ...facts.map(([name]) => name.length));
  const lines = facts.map(([name, value]) => `${name.padEnd(width)}  ${formatInline(value)}\n`);
  const tables = shown.flatMap(([name, value]) => {
    const rows = rowsOf(value);
    return rows === undefined ? [] : [`\n${name}\n${tableOf(rows)}`];
  });
  return [...lines, ...tables].join('');
}

/** The newest and the best validation in one table, the tasks of the newest in another. */
function spreadValidation({ validation, ...view }: Fields): Fields {
  if (!isFields(validation)) return view;
  const { newest, best } = validation;
  const tasks = isFields(newest) && isFields(newest['tasks']) ? newest['tasks'] : {};
  const rows = Object.entries({ newest, best }).flatMap(([name, fields]) => {
    if (!isFields(fields)) return [];
    return [[name, Object.fromEntries(Object.entries(fields).filter(([field]) => field !== 'tasks'))]];
  });
  const underWay = validation['underWay'];
  return { ...view, validating: underWay, validation: Object.fromEntries(rows) as Fields, validated: tasks };
}

/** Rows of a list of objects, or of an object of objects, whose names become the first column; undefined for anything else. */
function rowsOf(value: unknown): Fields[] | undefined {
  if (Array.isArray(value)) return value.every(isFields) ? value : undefined;
  if (!isFields(value) || !Object.values(value).every(isFields)) return undefined;
  return Object.entries(value).map(([name, fields]) => ({ name, ...(fields as Fields) }));
}

function tableOf(rows: readonly Fields[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = names.filter((name) => rows.some((row) => !isEmpty(row[name])));
  return formatTable(
    columns,
    rows.map((row) => columns.map((name) => formatCell(row[name]))),
  );
}

function formatCell(value: unknown): Cell {
  return isEmpty(value) ? '-' : formatInline(value);
}

/** `first 4.25, last 3.5` of an object, `a, b` of a list. */
function formatInline(value: unknown): string {
  if (typeof value === 'number') return String(Number.isInteger(value) ? value : Number(value.toPrecision(6)));
  if (Array.isArray(value)) return value.map(formatInline).join(', ');
  if (isFields(value))
    return Object.entries(value)
      .filter(([, part]) => !isEmpty(part))
      .map(([name, part]) => `${name} ${formatInline(part)}`)
      .join(', ');
  return String(value);
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}
