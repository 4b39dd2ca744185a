import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createBatchArrays, placeExamples } from './batch.ts';
import type { RowExample } from './planned-examples.ts';

const example = (task: number, inputs: number[], targets: number[]): RowExample => ({
  task,
  inputs: Int32Array.from(inputs),
  targets: Int32Array.from(targets),
});

describe('a row of a batch', () => {
  test('holds two examples and padding, as computed by hand', () => {
    const batch = createBatchArrays(2, 8, 6);
    placeExamples(batch, 1, [example(4, [11, 12, 13, 1], [21, 1]), example(0, [14, 1], [22, 23, 1])]);
    const row = (values: Int32Array, length: number) => [...values.subarray(length, 2 * length)];
    assert.deepEqual(row(batch.encoderInputIds, 8), [11, 12, 13, 1, 14, 1, 0, 0]);
    assert.deepEqual(row(batch.encoderSegmentIds, 8), [1, 1, 1, 1, 2, 2, 0, 0]);
    assert.deepEqual(row(batch.decoderInputIds, 6), [0, 21, 0, 22, 23, 0]);
    assert.deepEqual(row(batch.decoderSegmentIds, 6), [1, 1, 2, 2, 2, 0]);
    assert.deepEqual(row(batch.labels, 6), [21, 1, 22, 23, 1, -100]);
    assert.deepEqual(row(batch.taskOfTarget, 6), [4, 4, 0, 0, 0, -1]);
    const empty = createBatchArrays(1, 8, 6);
    assert.deepEqual(batch.labels.subarray(0, 6), empty.labels);
    assert.deepEqual(batch.encoderInputIds.subarray(0, 8), empty.encoderInputIds);
  });

  const ids = fc.array(fc.integer({ min: 2, max: 500 }), { maxLength: 6 }).map((body) => [...body, 1]);
  const rows = fc.array(
    fc.array(
      fc
        .record({ task: fc.nat(9), inputs: ids, targets: ids })
        .map(({ task, inputs, targets }) => example(task, inputs, targets)),
      { minLength: 1, maxLength: 4 },
    ),
    { minLength: 1, maxLength: 3 },
  );

  test('has each token once, in its segment and with its task, for any earlier content', () => {
    fc.assert(
      fc.property(rows, rows, (before, now) => {
        const batch = createBatchArrays(3, 30, 29);
        for (const [row, examples] of before.entries()) placeExamples(batch, row, examples);
        for (const [row, examples] of now.entries()) placeExamples(batch, row, examples);
        for (const [row, examples] of now.entries()) {
          const encoder = {
            ids: batch.encoderInputIds.subarray(30 * row, 30 * row + 30),
            segments: batch.encoderSegmentIds.subarray(30 * row, 30 * row + 30),
          };
          const target = (values: Int32Array) => values.subarray(29 * row, 29 * row + 29);
          const segments = target(batch.decoderSegmentIds);
          const of = (values: Int32Array, places: Int32Array, segment: number) =>
            [...values].filter((_, i) => places[i] === segment);
          for (const [i, { task, inputs, targets }] of examples.entries()) {
            assert.deepEqual(of(encoder.ids, encoder.segments, i + 1), [...inputs]);
            assert.deepEqual(of(target(batch.labels), segments, i + 1), [...targets]);
            assert.deepEqual(of(target(batch.decoderInputIds), segments, i + 1), [0, ...targets.slice(0, -1)]);
            assert.deepEqual(new Set(of(target(batch.taskOfTarget), segments, i + 1)), new Set([task]));
          }
          const isPadding = (values: Int32Array, places: Int32Array, pad: number) =>
            of(values, places, 0).every((value) => value === pad);
          assert.ok(isPadding(encoder.ids, encoder.segments, 0));
          assert.ok(isPadding(target(batch.decoderInputIds), segments, 0));
          assert.ok(isPadding(target(batch.labels), segments, -100));
          assert.ok(isPadding(target(batch.taskOfTarget), segments, -1));
          assert.equal(Math.max(...encoder.segments, ...segments), examples.length);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('rejects examples that do not fit and rows that do not exist', () => {
    const batch = createBatchArrays(1, 4, 3);
    assert.throws(() => placeExamples(batch, 0, [example(0, [5, 6, 7, 8, 1], [1])]), { code: 'INTERNAL' });
    assert.throws(() => placeExamples(batch, 0, [example(0, [5, 1], [5, 1]), example(0, [1], [5, 1])]), {
      code: 'INTERNAL',
    });
    assert.throws(() => placeExamples(batch, 1, [example(0, [1], [1])]), { code: 'INTERNAL' });
  });
});
