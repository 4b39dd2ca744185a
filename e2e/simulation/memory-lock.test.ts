import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LEASE_MS, MemoryLock } from './memory-lock.ts';
import { VirtualTime } from './virtual-clock.ts';
import { VirtualProcess } from './virtual-process.ts';

function twoProcesses() {
  const time = new VirtualTime();
  const [first, second] = ['first', 'second'].map((name) => new VirtualProcess(time, name));
  return { time, first: first!, second: second!, lock: new MemoryLock(time) };
}

describe('simulated lock of a run', () => {
  test('is kept by a running owner for longer than the lease', async () => {
    const { time, first, second, lock } = twoProcesses();
    const held = lock.acquire(first);
    await time.run(5 * LEASE_MS);
    assert.throws(() => lock.acquire(second), { code: 'RUN_LOCKED' });
    assert.deepEqual([held.isTakenOver, held.lost.aborted], [false, false]);
  });

  test('of a stopped owner is taken over after the lease, and the owner learns of it when it continues', async () => {
    const { time, first, second, lock } = twoProcesses();
    const held = lock.acquire(first);
    first.stop();
    await time.run(LEASE_MS);
    assert.throws(() => lock.acquire(second), { code: 'RUN_LOCKED' });
    await time.run(LEASE_MS + 1);
    const taken = lock.acquire(second);
    assert.deepEqual([taken.isTakenOver, held.lost.aborted], [true, false]);
    first.continue();
    await time.run(LEASE_MS + 2);
    assert.equal((held.lost.reason as { code?: string }).code, 'RUN_LOCKED');
    held.release();
    assert.throws(() => lock.acquire(first), { code: 'RUN_LOCKED' }, 'a former owner cannot release it');
  });

  test('of a crashed owner is taken over at once, and a released lock is free', () => {
    const { first, second, lock } = twoProcesses();
    lock.acquire(first).release();
    const held = lock.acquire(first);
    assert.equal(held.isTakenOver, false);
    first.crash();
    assert.equal(lock.acquire(second).isTakenOver, true);
  });
});
