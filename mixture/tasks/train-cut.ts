/**
 * Which records of a source are held out for an evaluation set. Pure.
 *
 * Definition: a record is held out if the first 48 bits of SHA-256 over the name of the set and the values of the fields that the task
 * reads, in the order of their names, are a multiple of `oneIn`. So the choice depends on the content alone: not on order, file or
 * process. Equal records are on the same side, also in two tasks that read the same fields of one source.
 */
import { createHash } from 'node:crypto';
import type { SourceFields } from './task.ts';

/** A cut of a source, with the name of the set that gets the records. */
export interface HeldOut {
  readonly set: string;
  readonly oneIn: number;
}

/** @param fields names of the fields that the task reads */
export function createHeldOutTest(
  { set, oneIn }: HeldOut,
  fields: readonly string[],
): (record: SourceFields) => boolean {
  const names = [...new Set(fields)].sort();
  return (record) => {
    const text = JSON.stringify([set, names.map((name) => [name, record[name] ?? null])], plainValue);
    return createHash('sha256').update(text).digest().readUIntBE(0, 6) % oneIn === 0;
  };
}

/** Values that JSON has no word for. An object's keys keep the order of the source's columns. */
function plainValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  return value instanceof Uint8Array ? [...value] : value;
}
