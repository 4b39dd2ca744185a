import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { VirtualTime } from './virtual-clock.ts';
import { VirtualProcess } from './virtual-process.ts';

describe('virtual time', () => {
  test('events fire in the order of their times, and of scheduling for equal times; cancelled ones do not fire', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(20), fc.boolean()), { maxLength: 200 }), async (delays) => {
        const time = new VirtualTime();
        const fired: [number, number][] = [];
        for (const [i, [delay, isCancelled]] of delays.entries()) {
          const event = time.schedule(delay, 'event', () => fired.push([time.nowMs, i]));
          if (isCancelled) event.cancel();
        }
        await time.run(100);
        const expected = delays.flatMap(([delay, isCancelled], i): [number, number][] =>
          isCancelled ? [] : [[delay, i]],
        );
        assert.deepEqual(
          fired,
          expected.sort(([a, i], [b, j]) => a - b || i - j),
        );
        assert.equal(time.nowMs, 100);
      }),
      { numRuns: 50 },
    );
  });

  test('between two events, promises settle and immediates run, also in chains', async () => {
    const time = new VirtualTime();
    const seen: string[] = [];
    time.schedule(1, 'first', () => {
      void (async () => {
        for (let i = 0; i < 50; i++) await Promise.resolve();
        for (let i = 0; i < 3; i++) {
          await new Promise(setImmediate);
          await Promise.resolve();
        }
        seen.push('all of the first');
      })();
    });
    time.schedule(1, 'second', () => seen.push('second'));
    await time.run(2);
    assert.deepEqual(seen, ['all of the first', 'second']);
  });

  test('virtual hours need no real time, and differences of times are exact', async () => {
    const time = new VirtualTime();
    const { clock } = new VirtualProcess(time, 'w', 5_000);
    assert.equal(clock.monotonicMs(), 5_000);
    let slept: number[] = [];
    void (async () => {
      for (const ms of [0.1, 0.2, 3_600_000, 0.3]) {
        const before = clock.monotonicMs();
        await clock.sleep(ms);
        slept = [...slept, (clock.monotonicMs() - before) * 1024];
      }
    })();
    await time.run(() => slept.length === 4);
    assert.deepEqual(slept, [102, 205, 3_600_000 * 1024, 307]);
  });

  test('atEvent fires after a given number of events', async () => {
    const time = new VirtualTime();
    const seen: string[] = [];
    for (const name of ['a', 'b', 'c']) time.schedule(1, name, () => seen.push(name));
    time.atEvent(2, 'between', () => seen.push('between'));
    time.atEvent(0, 'never', () => seen.push('never')).cancel();
    await time.run(1);
    assert.deepEqual(seen, ['a', 'b', 'between', 'c']);
  });

  test('a run that cannot end fails: nothing scheduled, too many events, too much time', async () => {
    const time = new VirtualTime();
    await assert.rejects(
      time.run(() => false),
      { code: 'INTERNAL', message: /no event is scheduled.*at 0 ms after 0 events/u },
    );
    const { clock } = new VirtualProcess(time, 'w');
    void (async () => {
      for (;;) await clock.sleep(10);
    })();
    await assert.rejects(
      time.run(() => false, { maxEvents: 7 }),
      { code: 'INTERNAL', message: /limit of events.*after 7 events/u },
    );
    await assert.rejects(
      time.run(() => false, { maxMs: 100 }),
      { code: 'INTERNAL', message: /limit of time at 170 ms/u },
    );
  });

  test('an error that a callback throws ends the run', async () => {
    const time = new VirtualTime();
    time.schedule(1, 'breaks', () => {
      throw new RangeError('as it is');
    });
    await assert.rejects(time.run(5), { message: 'as it is' });
  });

  test('the digest of the trace depends on order, time and label', async () => {
    const digestOf = async (events: readonly [number, string][]): Promise<number> => {
      const time = new VirtualTime();
      for (const [delay, label] of events) time.schedule(delay, label, () => undefined);
      await time.run(10);
      return time.traceDigest;
    };
    const runs: [number, string][][] = [
      [
        [1, 'a'],
        [1, 'b'],
      ],
      [
        [1, 'b'],
        [1, 'a'],
      ],
      [
        [1, 'a'],
        [2, 'b'],
      ],
      [
        [1, 'a'],
        [1, 'c'],
      ],
    ];
    const digests: number[] = [];
    for (const events of [...runs, runs[0]!]) digests.push(await digestOf(events));
    assert.equal(digests.pop(), digests[0]);
    assert.equal(new Set(digests).size, 4);
  });
});

describe('virtual process', () => {
  /** A process that counts every 10 ms. */
  function start() {
    const time = new VirtualTime();
    const process = new VirtualProcess(time, 'w');
    const ticks: number[] = [];
    void (async () => {
      for (;;) {
        await process.clock.sleep(10);
        ticks.push(time.nowMs);
      }
    })();
    return { time, process, ticks };
  }

  test('after a crash, its sleeps never settle and it is not called', async () => {
    const { time, process, ticks } = start();
    let numCrashes = 0;
    process.onCrash(() => numCrashes++);
    time.schedule(25, 'crash', () => process.crash());
    process.schedule(30, 'call', () => ticks.push(-1));
    await time.run(100);
    process.enter('call', () => ticks.push(-1));
    process.crash();
    process.continue();
    assert.deepEqual([ticks, numCrashes, process.state], [[10, 20], 1, 'crashed']);
  });

  test('while it is stopped, due calls are deferred; they come in order when it is continued', async () => {
    const { time, process, ticks } = start();
    time.schedule(15, 'stop', () => process.stop());
    for (const ms of [16, 17]) process.schedule(ms, 'call', () => ticks.push(-ms));
    time.schedule(55, 'continue', () => process.continue());
    await time.run(70);
    assert.deepEqual(ticks, [10, -16, -17, 55, 65]);
  });

  test('a deferred sleep can still be aborted by code that woke before it', async () => {
    const { time, process } = start();
    const ended: string[] = [];
    const stop = new AbortController();
    process.clock.sleep(5).then(
      () => stop.abort(),
      () => undefined,
    );
    process.clock.sleep(6, stop.signal).then(
      () => ended.push('slept'),
      (error: unknown) => ended.push((error as { code: string }).code),
    );
    process.stop();
    time.schedule(9, 'continue', () => process.continue());
    await time.run(9);
    assert.deepEqual(ended, ['ABORTED']);
    await assert.rejects(process.clock.sleep(1, stop.signal), { code: 'ABORTED' });
  });
});
