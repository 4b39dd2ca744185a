import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LeaveDeadline } from './leave-deadline.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

function start() {
  const clock = new ManualClock();
  const ends: string[] = [];
  const deadline = new LeaveDeadline({ clock, end: (reason) => void ends.push(reason) });
  return { clock, ends, deadline };
}

const LOST = { code: 'WORKER_LOST' as const, message: 'dropped' };

describe('LeaveDeadline', () => {
  test('ends the process when the compute thread does not leave', async () => {
    const { clock, ends, deadline } = start();
    void deadline.lost(LOST);
    await clock.advance(19_999);
    assert.deepEqual(ends, []);
    await clock.advance(1);
    assert.deepEqual(ends, ['the compute thread has not answered for 20000 ms after WORKER_LOST: dropped']);
  });

  test('does nothing when the compute thread leaves in time', async () => {
    const { clock, ends, deadline } = start();
    const waited = deadline.lost(LOST);
    await clock.advance(5_000);
    deadline.left();
    await waited;
    await clock.advance(60_000);
    assert.deepEqual([ends, clock.numSleeping], [[], 0]);
  });

  test('does nothing when the compute thread had left before', async () => {
    const { clock, ends, deadline } = start();
    deadline.left();
    await deadline.lost(LOST);
    assert.deepEqual([ends, clock.numSleeping], [[], 0]);
  });
});
