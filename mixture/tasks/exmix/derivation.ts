/**
 * Derivations: small pure steps from the columns of a record to the placeholders of a template.
 *
 * Definition: a derivation has the columns it reads, a description for people (`words`: `exmix tasks show`,
 * docs/tasks.md) and an identity, which is part of the preprocessor's identity. Raise its `version` if its result
 * changes: its tasks are then prepared again. A path leads into structs: `answers.text` is the member `text` of the
 * column `answers`.
 * Assumption: the record has passed the column check, so a value of another type is an error in the table (INTERNAL).
 */
import { assertInvariant } from '../../../shared/errors.ts';
import type { Rendered } from '../template.ts';
import type { JsonValue, SourceFields } from '../task.ts';
import { describeValue, isRecord } from './column-type.ts';

export interface Derivation {
  readonly identity: Identity;
  readonly words: string;
  /** The columns it reads. */
  readonly columns: readonly string[];
  derive(fields: SourceFields): Rendered;
}

export type Identity = Readonly<Record<string, JsonValue>>;

/** T5's target for a row without a label. */
export const NO_LABEL = '<unk>';

/** A derivation that never fails. */
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

/** The value at a path. Undefined if a nullable value on the path is null. */
export function valueAt(fields: SourceFields, path: string): unknown {
  let value: unknown = fields;
  for (const name of path.split('.')) {
    if (value === null || value === undefined) return undefined;
    assertInvariant(isRecord(value), `the table's path ${path} expects a struct, found ${describeValue(value)}`);
    value = value[name];
  }
  return value;
}

/** A string, number or boolean as text. '' for null. */
export function asText(value: unknown, path: string): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') return value;
  assertInvariant(
    typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean',
    `the table expects text at ${path}, found ${describeValue(value)}`,
  );
  return String(value);
}

/** An integer of any width. */
export function asInteger(value: unknown, path: string): number {
  const number = Number(value);
  assertInvariant(
    (typeof value === 'number' || typeof value === 'bigint') && Number.isSafeInteger(number),
    `the table expects an integer at ${path}, found ${describeValue(value)}`,
  );
  return number;
}

export function asList(value: unknown, path: string): readonly unknown[] {
  if (value === null || value === undefined) return [];
  assertInvariant(Array.isArray(value), `the table expects a list at ${path}, found ${describeValue(value)}`);
  return value;
}

export const textAt = (fields: SourceFields, path: string): string => asText(valueAt(fields, path), path);
export const integerAt = (fields: SourceFields, path: string): number => asInteger(valueAt(fields, path), path);
export const listAt = (fields: SourceFields, path: string): readonly unknown[] => asList(valueAt(fields, path), path);

/** The structs of a list. @param shown the path to name in messages */
export function structsAt(fields: SourceFields, path: string, shown = path): SourceFields[] {
  return listAt(fields, path).map((element) => {
    assertInvariant(isRecord(element), `the table expects structs at ${shown}, found ${describeValue(element)}`);
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
