/**
 * The rows of a plan, and their encoding. The coordinator sends a worker the rows of its lanes in this form.
 *
 * Layout, all numbers unsigned LEB128 (7 bits in a byte, low bits first, at most 5 bytes, shortest form):
 * | number of rows | then for each row: number of examples ≥ 1 | then for each example: task | index | epoch |
 * An example takes about 5 bytes, so a step of 2,048 rows takes some tens of kilobytes.
 */

import { TrainerError } from '../../shared/errors.ts';

export interface PlannedExample {
  /** Number of the task in the mixture. */
  readonly task: number;
  /** Number of the example in the shards of the task, after the permutation. */
  readonly index: number;
  /** Pass over the task, from 0. */
  readonly epoch: number;
}

/** The examples in one row, in their order. */
export type PlannedRow = readonly PlannedExample[];

const MAX_UINT32 = 2 ** 32 - 1;

/** Rows → bytes. @throws INTERNAL if a number is not a uint32 or a row is empty */
export function encodeRows(rows: readonly PlannedRow[]): Uint8Array<ArrayBuffer> {
  const numExamples = rows.reduce((sum, row) => sum + row.length, 0);
  const bytes = new Uint8Array(5 * (1 + rows.length + 3 * numExamples));
  let at = 0;
  const write = (value: number, least = 0) => {
    if (!Number.isInteger(value) || value < least || value > MAX_UINT32)
      throw new TrainerError('INTERNAL', `planned rows: expected a number from ${least} to 2^32 - 1, found ${value}`);
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 128;
    bytes[at++] = rest;
  };
  write(rows.length);
  for (const row of rows) {
    write(row.length, 1);
    for (const { task, index, epoch } of row) {
      write(task);
      write(index);
      write(epoch);
    }
  }
  return bytes.slice(0, at);
}

/**
 * Bytes → rows. Memory is at most a small multiple of the bytes.
 * @throws MESSAGE_INVALID if the bytes are not the exact encoding of some rows
 */
export function decodeRows(bytes: Uint8Array): PlannedRow[] {
  let at = 0;
  const fail = (expected: string, found: string): never => {
    throw new TrainerError(
      'MESSAGE_INVALID',
      `planned rows: expected ${expected}, found ${found} at byte ${at} of ${bytes.length}; the sender has a bug or another version`,
    );
  };
  const read = (least = 0): number => {
    let value = 0;
    for (let place = 0; place < 5; place++) {
      const byte = bytes[at] ?? fail('another number', 'the end');
      at += 1;
      value += (byte & 127) * 128 ** place;
      if (byte > 127) continue;
      if (byte === 0 && place > 0) fail('the shortest form of a number', 'a superfluous zero byte');
      if (value > MAX_UINT32 || value < least) fail(`a number from ${least} to 2^32 - 1`, String(value));
      return value;
    }
    return fail('a number of at most 5 bytes', 'a longer one');
  };
  const readCount = (least: number, bytesEach: number): number => {
    const count = read(least);
    return count * bytesEach <= bytes.length - at
      ? count
      : fail('as many entries as the bytes can hold', `a count of ${count}`);
  };
  const rows: PlannedRow[] = [];
  // A row takes at least 4 bytes (its count and one example), an example at least 3.
  const numRows = readCount(0, 4);
  for (let row = 0; row < numRows; row++) {
    const numExamples = readCount(1, 3);
    const examples: PlannedExample[] = [];
    for (let i = 0; i < numExamples; i++) examples.push({ task: read(), index: read(), epoch: read() });
    rows.push(examples);
  }
  if (at !== bytes.length) fail('the end', 'more bytes');
  return rows;
}
