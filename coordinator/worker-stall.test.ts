import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createLogger } from '../shared/logger.ts';
import { StalledTime, StallLog } from './worker-stall.ts';

describe('a worker that waits for its source', () => {
  test('is told when it begins, when the reason changes, every ten seconds, and when it goes on', () => {
    const told: unknown[][] = [];
    const log = createLogger({
      onRecord: (record) => told.push([record.msg, record['workerId'], record['forMs'], record['reason']]),
    });
    const stalls = new StallLog(log, 'w1');
    stalls.heard(undefined);
    for (let forMs = 3_000; forMs <= 21_000; forMs += 1_000)
      stalls.heard({ reason: forMs < 5_000 ? 'no answer yet' : '503', forMs });
    stalls.heard(undefined);
    stalls.heard(undefined);
    assert.deepEqual(told, [
      ['worker waits for its source', 'w1', 3_000, 'no answer yet'],
      ['worker waits for its source', 'w1', 5_000, '503'],
      ['worker waits for its source', 'w1', 15_000, '503'],
      ['worker has its source again', 'w1', 15_000, undefined],
    ]);
  });

  test('excuses only the time it waited, and only the step that was open then', () => {
    const stalled = new StalledTime();
    const members = [{ stall: undefined }, { stall: { reason: '503', forMs: 1 } }];
    assert.equal(stalled.look(1_000, 7, members, [1]), 0);
    assert.equal(stalled.look(1_200, 7, members, [1]), 200);
    assert.equal(stalled.look(1_900, 7, members, [0]), 200);
    assert.equal(stalled.look(2_000, 7, members, [1]), 300);
    assert.equal(stalled.look(2_500, 8, members, [1]), 0);
    assert.equal(stalled.look(2_600, 8, members, [1]), 100);
  });
});
