import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BatchArrays } from '../../mixture/feed/batch.ts';
import { createBatchRing, viewSlot } from './batch-ring.ts';

const shape = { numRows: 2, inputsLength: 5, targetsLength: 3 };
const arraysOf = (slot: BatchArrays): Int32Array[] => [
  slot.encoderInputIds,
  slot.encoderSegmentIds,
  slot.decoderInputIds,
  slot.decoderSegmentIds,
  slot.labels,
  slot.taskOfTarget,
];

describe('batch ring', () => {
  test('the arrays of all slots lie one behind the other and fill the memory exactly', () => {
    const ring = createBatchRing(shape, 3);
    let end = 0;
    for (const slot of [0, 1, 2])
      for (const [i, array] of arraysOf(viewSlot(ring, shape, slot)).entries()) {
        assert.equal(array.byteOffset, end);
        assert.equal(array.length, i < 2 ? 10 : 6);
        end += array.byteLength;
      }
    assert.equal(ring.byteLength, end);
  });

  test('another view of a slot reads the writes, and other slots do not change', () => {
    const ring = createBatchRing(shape, 2);
    for (const [i, array] of arraysOf(viewSlot(ring, shape, 1)).entries()) array.fill(i + 1);
    const again = viewSlot(ring, shape, 1);
    assert.deepEqual({ ...shape }, { numRows: again.numRows, inputsLength: again.inputsLength, targetsLength: 3 });
    for (const [i, array] of arraysOf(again).entries()) assert.ok(array.every((value) => value === i + 1));
    for (const array of arraysOf(viewSlot(ring, shape, 0))) assert.ok(array.every((value) => value === 0));
  });
});
