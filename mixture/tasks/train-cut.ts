/**
 * Which records of a train source are held out for an evaluation set: training leaves them out, the set has nothing else. Pure.
 *
 * Definition: only records that give examples count. A record is held out if a number is a multiple of `oneIn`: the first 48 bits of SHA-256 over
 * the name of the set and the values of the fields that the task reads, in the order of their names. The choice depends on the content alone,
 * not on order, file or process. Equal records are on the same side, also in two tasks that read the same fields of one source.
 */
import { createHash } from 'node:crypto';
import type { EvaluationSplits, JsonValue, SourceFields } from './task.ts';

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

/** What the shards of a task depend on because of its cut. */
export function heldOutIdentity({ set, oneIn }: HeldOut): Record<string, JsonValue> {
  return { heldOut: { version: 1, set, oneIn } };
}

/** The cut among the sets of a task. It has at most one. */
export function heldOutOf(splits: EvaluationSplits | undefined): HeldOut | undefined {
  for (const { name, source } of splits?.validation ?? [])
    if (source.kind === 'cut') return { set: name, oneIn: source.oneIn };
  return undefined;
}

/** Values that JSON has no word for. An object's keys keep the order of the source's columns. */
function plainValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  return value instanceof Uint8Array ? [...value] : value;
}
