/**
 * Derivations: the small pure steps between a record's columns and the placeholders of a template. Each is a value that says what it
 * reads, what it does in words (for `exmix tasks show` and the docs) and who it is (`identity`, part of the preprocessor's identity:
 * raise its `version` when what it makes changes, and its tasks are prepared again).
 *
 * Paths lead into structs: `answers.text` is the member `text` of the column `answers`.
 * Assumption: the record passed `checkColumns`, so a value of another type is a mistake in the table (INTERNAL).
 */
import { assertInvariant } from '../../../shared/errors.ts';
import type { Rendered } from '../template.ts';
import type { JsonValue, SourceFields } from '../task.ts';
import { describeValue, isRecord } from './column-type.ts';

export interface Derivation {
  readonly identity: Identity;
  readonly words: string;
  /** Columns it reads. */
  readonly columns: readonly string[];
  derive(fields: SourceFields): Rendered;
}

export type Identity = Readonly<Record<string, JsonValue>>;

/** T5's target where a row has no label. */
export const NO_LABEL = '<unk>';

/** A derivation that always gives a text. */
export function textDerivation(
  identity: Identity,
  words: string,
  paths: readonly string[],
  toText: (fields: SourceFields) => string,
): Derivation {
  return { identity, words, columns: rootsOf(paths), derive: (fields) => ({ ok: true, text: toText(fields) }) };
}

export function rootsOf(paths: readonly string[]): string[] {
  return [...new Set(paths.map((path) => path.split('.', 1)[0]!))];
}

/** The value at a path; undefined where a nullable part of the way is null. */
export function valueAt(fields: SourceFields, path: string): unknown {
  let value: unknown = fields;
  for (const name of path.split('.')) {
    if (value === null || value === undefined) return undefined;
    assertInvariant(isRecord(value), `the table's path ${path} leads through ${describeValue(value)}`);
    value = value[name];
  }
  return value;
}

/** Text of a string, number or boolean; '' for null. */
export function asText(value: unknown, path: string): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') return value;
  assertInvariant(
    typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean',
    `the table takes ${path} for text, but it is ${describeValue(value)}`,
  );
  return String(value);
}

/** A whole number, of any width. */
export function asInteger(value: unknown, path: string): number {
  const number = Number(value);
  assertInvariant(
    (typeof value === 'number' || typeof value === 'bigint') && Number.isSafeInteger(number),
    `the table takes ${path} for an integer, but it is ${describeValue(value)}`,
  );
  return number;
}

export function asList(value: unknown, path: string): readonly unknown[] {
  if (value === null || value === undefined) return [];
  assertInvariant(Array.isArray(value), `the table takes ${path} for a list, but it is ${describeValue(value)}`);
  return value;
}

export const textAt = (fields: SourceFields, path: string): string => asText(valueAt(fields, path), path);
export const integerAt = (fields: SourceFields, path: string): number => asInteger(valueAt(fields, path), path);
export const listAt = (fields: SourceFields, path: string): readonly unknown[] => asList(valueAt(fields, path), path);

/** The structs of a list. @param shown the path for messages */
export function structsAt(fields: SourceFields, path: string, shown = path): SourceFields[] {
  return listAt(fields, path).map((element) => {
    assertInvariant(isRecord(element), `the table takes ${shown} for structs, but one is ${describeValue(element)}`);
    return element;
  });
}

/** The texts of a list of texts, or of one member of a list of structs (`output[].answer`). */
export function textsAt(fields: SourceFields, path: string): string[] {
  const [listPath = '', member] = path.split('[].');
  if (member === undefined) return listAt(fields, listPath).map((element) => asText(element, path));
  return structsAt(fields, listPath, path).map((element) => textAt(element, member));
}

export const listRoot = (path: string): string => path.split('[].', 1)[0]!;
