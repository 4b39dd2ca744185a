/**
 * Types of source columns, written as parquet readers print them: `string`, `int64`, `list<string>`, `struct<text:
 * list<string>, start: list<int32>>`. A `?` after a type allows null and absence.
 *
 * Definition: a column's type is what a preprocessor may rely on. `createColumnCheck` compares a record with its
 * columns, so a rule reads checked values. A row with another shape is malformed; the reason names the column, the
 * expected type and the found value. Integers may be numbers or bigints (parquet's int64), up to 2^53. A Hugging Face
 * `Sequence` of a dict is a struct of lists.
 */
import { TrainerError } from '../../../shared/errors.ts';
import { missingField } from '../template.ts';
import type { SourceFields } from '../task.ts';

const SCALARS = ['string', 'bool', 'int32', 'int64', 'float32', 'float64'] as const;
export type ScalarType = (typeof SCALARS)[number];

export type ColumnType = { readonly nullable: boolean } & (
  | { readonly kind: 'scalar'; readonly scalar: ScalarType }
  | { readonly kind: 'list'; readonly element: ColumnType }
  | { readonly kind: 'struct'; readonly members: readonly (readonly [name: string, type: ColumnType])[] }
);

/** Column name → type as text. */
export type Columns = Readonly<Record<string, string>>;

/** @throws INTERNAL for an unknown type: the table is wrong */
export function parseColumnType(text: string): ColumnType {
  const nullable = text.endsWith('?');
  const bare = nullable ? text.slice(0, -1) : text;
  const scalar = SCALARS.find((name) => name === bare);
  if (scalar !== undefined) return { kind: 'scalar', scalar, nullable };
  const inner = /^(list|struct)<(.+)>$/u.exec(bare);
  if (inner === null) throw new TrainerError('INTERNAL', `column type "${text}" is not known`);
  if (inner[1] === 'list') return { kind: 'list', element: parseColumnType(inner[2]!), nullable };
  const members = splitMembers(inner[2]!).map((member) => {
    const colon = member.indexOf(': ');
    return [member.slice(0, colon), parseColumnType(member.slice(colon + 2))] as const;
  });
  return { kind: 'struct', members, nullable };
}

/** Splits `a: string, b: struct<c: string, d: string>` at its outer commas. */
function splitMembers(text: string): string[] {
  const members: string[] = [];
  let depth = 0;
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '<') depth += 1;
    if (text[at] === '>') depth -= 1;
    if (depth === 0 && text.startsWith(', ', at)) {
      members.push(text.slice(from, at));
      from = at + 2;
    }
  }
  return [...members, text.slice(from)];
}

/** @returns the reason why a record does not match: column, expected type and found value. Undefined if it matches. */
export type ColumnCheck = (fields: SourceFields) => string | undefined;

export function createColumnCheck(columns: Columns): ColumnCheck {
  const types = Object.entries(columns).map(([name, type]) => [name, parseColumnType(type)] as const);
  return (fields) => {
    for (const [name, type] of types) {
      if (!Object.hasOwn(fields, name)) {
        if (type.nullable) continue;
        return missingField(name, Object.keys(fields));
      }
      const problem = findProblem(type, fields[name], name);
      if (problem !== undefined) return problem;
    }
    return undefined;
  };
}

function findProblem(type: ColumnType, value: unknown, place: string): string | undefined {
  if (value === null || value === undefined)
    return type.nullable ? undefined : `column "${place}": expected ${printType(type)}, found null`;
  if (type.kind === 'scalar')
    return isScalar(type.scalar, value)
      ? undefined
      : `column "${place}": expected ${type.scalar}, found ${describeValue(value)}`;
  if (type.kind === 'list') {
    if (!Array.isArray(value)) return `column "${place}": expected a list, found ${describeValue(value)}`;
    for (const [i, element] of value.entries()) {
      const problem = findProblem(type.element, element, `${place}[${i}]`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  if (!isRecord(value)) return `column "${place}": expected a struct, found ${describeValue(value)}`;
  for (const [name, member] of type.members) {
    const problem = findProblem(member, value[name], `${place}.${name}`);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function isScalar(type: ScalarType, value: unknown): boolean {
  if (type === 'string') return typeof value === 'string';
  if (type === 'bool') return typeof value === 'boolean';
  if (type === 'int32' || type === 'int64')
    return (typeof value === 'bigint' || typeof value === 'number') && Number.isSafeInteger(Number(value));
  return typeof value === 'number' && Number.isFinite(value);
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

/** A value for a message: its type, and the value itself if it is short. */
export function describeValue(value: unknown): string {
  if (typeof value === 'string') return `text "${value.slice(0, 40)}"`;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean')
    return `${typeof value} ${String(value)}`;
  if (value instanceof Uint8Array) return 'bytes (text that is not valid UTF-8?)';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return isRecord(value) ? 'a struct' : 'null';
}

export function printType(type: ColumnType): string {
  const mark = type.nullable ? '?' : '';
  if (type.kind === 'scalar') return type.scalar + mark;
  if (type.kind === 'list') return `list<${printType(type.element)}>${mark}`;
  return `struct<${type.members.map(([name, member]) => `${name}: ${printType(member)}`).join(', ')}>${mark}`;
}
