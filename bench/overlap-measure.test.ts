import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { measureOverlap } from './overlap-measure.ts';

const MIB = 2 ** 20;

describe('overlap of communication and computation of a step', () => {
  test('a bucket moves from its last announcement to its last final sum; gaps between buckets do not count', () => {
    const overlap = measureOverlap([
      { bytes: 3 * MIB, announcedMs: [10, 20], finalMs: [35, 40] }, // 20-40
      { bytes: 2 * MIB, announcedMs: [30, 25], finalMs: [50, 45] }, // 30-50
      { bytes: 5 * MIB, announcedMs: [60, 100], finalMs: [130, 110] }, // 100-130; computing ends at 100
    ]);
    assert.deepEqual(overlap, { movingMs: 60, besideMs: 30, exposedMs: 30, finalShare: 0.5 });
  });

  test('a bucket that moves when computing ends counts on both sides', () => {
    const overlap = measureOverlap([
      { bytes: 2 * MIB, announcedMs: [0, 10], finalMs: [50, 50] },
      { bytes: 2 * MIB, announcedMs: [30, 20], finalMs: [70, 70] },
    ]);
    assert.deepEqual(overlap, { movingMs: 60, besideMs: 20, exposedMs: 40, finalShare: 0 });
  });

  test('a single bucket is completely exposed', () => {
    const overlap = measureOverlap([{ bytes: MIB, announcedMs: [5, 9], finalMs: [19, 18] }]);
    assert.deepEqual(overlap, { movingMs: 10, besideMs: 0, exposedMs: 10, finalShare: 0 });
  });
});
