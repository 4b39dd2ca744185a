import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RecentTimes } from './step-times.ts';

describe('RecentTimes', () => {
  test('the median is of the last twenty', () => {
    const times = new RecentTimes();
    assert.equal(times.count, 0);
    assert.ok(Number.isNaN(times.medianMs));
    for (const ms of [300, 100, 200]) times.add(ms);
    assert.deepEqual([times.count, times.medianMs], [3, 200]);
    for (let i = 0; i < 20; i++) times.add(1000 + i);
    assert.deepEqual([times.count, times.medianMs], [20, 1010]);
  });
});
