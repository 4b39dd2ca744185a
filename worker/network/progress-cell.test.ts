import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { workerPhaseSchema } from '../../shared/protocol/messages.ts';
import { ProgressCell } from './progress-cell.ts';

describe('progress cell', () => {
  test('another cell over the same memory reads the last write, in every phase', () => {
    const writer = new ProgressCell();
    const reader = new ProgressCell(writer.memory);
    assert.deepEqual(reader.read(), { progress: 0, phase: 'starting', step: 0 });
    for (const [i, phase] of workerPhaseSchema.options.entries()) {
      writer.advance(phase, 10 * i);
      assert.deepEqual(reader.read(), { progress: i + 1, phase, step: 10 * i });
    }
  });

  test('the counter continues past 2^31 and starts again after 2^32', () => {
    const cell = new ProgressCell();
    const counter = new Int32Array(cell.memory);
    counter[0] = 2 ** 31 - 1;
    cell.advance('compute', 1);
    assert.equal(cell.read().progress, 2 ** 31);
    counter[0] = -1;
    cell.advance('compute', 1);
    assert.equal(cell.read().progress, 0);
  });
});
