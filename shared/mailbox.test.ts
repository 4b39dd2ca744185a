import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { systemClock } from './clock.ts';
import { Mailbox } from './mailbox.ts';

describe('mailbox', () => {
  test('events come out in the order they went in', async () => {
    const mailbox = new Mailbox<number>(4, systemClock);
    mailbox.put(1);
    mailbox.put(2);
    assert.deepEqual([await mailbox.next(0), await mailbox.next(0)], [1, 2]);
  });

  test('an event wakes a waiting reader', async () => {
    const mailbox = new Mailbox<string>(1, systemClock);
    const waiting = mailbox.next(60_000);
    mailbox.put('hello');
    assert.equal(await waiting, 'hello');
  });

  test('a wake lets a waiting reader go on without an event', async () => {
    const mailbox = new Mailbox<string>(1, systemClock);
    const waiting = mailbox.next(60_000);
    mailbox.wake();
    assert.equal(await waiting, undefined);
    mailbox.wake(); // nobody waits
    mailbox.put('later');
    assert.equal(await mailbox.next(60_000), 'later');
  });

  test('a waiting reader gets all events of the same turn with one wait', async () => {
    let numWaits = 0;
    const sleep: typeof systemClock.sleep = (ms, signal) => {
      numWaits += 1;
      return systemClock.sleep(ms, signal);
    };
    const mailbox = new Mailbox<number>(3, { ...systemClock, sleep });
    const waiting = mailbox.next(60_000);
    for (const event of [1, 2, 3]) queueMicrotask(() => void mailbox.put(event));
    assert.deepEqual([await waiting, await mailbox.next(0), await mailbox.next(0)], [1, 2, 3]);
    assert.equal(numWaits, 1);
  });

  test('a full mailbox refuses an event, and accepts one after a read', async () => {
    const mailbox = new Mailbox<number>(1, systemClock);
    assert.equal(mailbox.put(1), true);
    assert.equal(mailbox.put(2), false);
    await mailbox.next(0);
    assert.equal(mailbox.put(3), true);
    assert.equal(mailbox.size, 1);
  });

  test('an event that must not be lost enters a full mailbox, in its order, and wakes the reader', async () => {
    const mailbox = new Mailbox<number>(1, systemClock);
    assert.deepEqual([mailbox.put(1), mailbox.put(2)], [true, false]);
    mailbox.putAlways(3);
    assert.equal(mailbox.put(4), false);
    assert.deepEqual([await mailbox.next(0), await mailbox.next(0)], [1, 3]);
    const waiting = mailbox.next(60_000);
    mailbox.putAlways(5);
    assert.equal(await waiting, 5);
  });

  test('no event within the time is undefined', async () => {
    assert.equal(await new Mailbox<number>(1, systemClock).next(1), undefined);
  });

  test('the signal ends a wait, and refuses a new one', async () => {
    const controller = new AbortController();
    const mailbox = new Mailbox<number>(1, systemClock);
    const waiting = mailbox.next(60_000, controller.signal);
    controller.abort();
    await assert.rejects(waiting, { code: 'ABORTED' });
    await assert.rejects(mailbox.next(60_000, controller.signal), { code: 'ABORTED' });
  });
});
