import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { describe, test } from 'node:test';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { DiskSpace } from './disk-space.ts';

const full = () =>
  new TrainerError('DISK_FULL', 'cannot append to /run/journal: no free space (ENOSPC); free space there');
const neverClosed = new AbortController().signal;

/** The clock runs by the waits alone; `onSleep` is called with the second that begins. */
function create(onSleep: (second: number) => void = () => undefined) {
  const stop = new AbortController();
  const records: LogRecord[] = [];
  let nowMs = 5_000;
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: async (ms, signal) => {
      onSleep((nowMs - 5_000) / 1_000);
      await new Promise(setImmediate);
      if (signal?.aborted === true) throw new TrainerError('ABORTED', 'aborted');
      nowMs += ms;
    },
  };
  const diskSpace = new DiskSpace({ folder: tmpdir(), clock, signal: stop.signal });
  const log = createLogger({ onRecord: (record) => records.push(record) });
  const logged = () => records.map(({ msg, forMs }) => [msg, forMs]);
  return { diskSpace, log, stop, records, logged };
}

/** Fails with DISK_FULL so many times, then succeeds. */
function failing(times: number) {
  const work = { numAttempts: 0, attempt: () => Promise.resolve('written') };
  work.attempt = () => (work.numAttempts++ < times ? Promise.reject(full()) : Promise.resolve('written'));
  return work;
}

describe('a write on a full disk', () => {
  test('is repeated every second; the log says so at once, every 30 s, and at the end with the time it took', async () => {
    const waitingFor = new Set<string>();
    const { diskSpace, log, records, logged } = create(() => waitingFor.add(diskSpace.waitingFor));
    diskSpace.logTo(log);
    const work = failing(62);
    assert.equal(await diskSpace.keepTrying(work.attempt, neverClosed), 'written');
    assert.equal(work.numAttempts, 63);
    const paused = 'run paused by a full disk';
    assert.deepEqual(logged(), [
      [paused, 0],
      [paused, 30_000],
      [paused, 60_000],
      ['run continues after a full disk', 62_000],
    ]);
    const [first] = records;
    assert.equal(first?.['folder'], tmpdir());
    assert.ok(Number(first['freeBytes']) > 0);
    assert.match(
      String(first['reason']),
      /^cannot append to \/run\/journal: no free space .*continues by itself once there is free space$/u,
    );
    assert.deepEqual([...waitingFor], [first['reason']]);
    assert.equal(diskSpace.waitingFor, '');
  });

  test('fails at once before there is a log', async () => {
    const { diskSpace, log } = create();
    const work = failing(1);
    await assert.rejects(diskSpace.keepTrying(work.attempt, neverClosed), { code: 'DISK_FULL' });
    assert.equal(work.numAttempts, 1);
    diskSpace.logTo(log);
    assert.equal(await diskSpace.keepTrying(failing(1).attempt, neverClosed), 'written');
  });

  test('every other failure is final, at first and during the wait', async () => {
    const { diskSpace, log, logged } = create();
    diskSpace.logTo(log);
    const broken = new TrainerError('PATH_UNUSABLE', 'cannot append to /run/journal (EIO)');
    await assert.rejects(
      diskSpace.keepTrying(() => Promise.reject(broken), neverClosed),
      { code: 'PATH_UNUSABLE' },
    );
    assert.deepEqual(logged(), []);
    let numAttempts = 0;
    const later = () => Promise.reject(numAttempts++ < 3 ? full() : broken);
    await assert.rejects(diskSpace.keepTrying(later, neverClosed), { code: 'PATH_UNUSABLE' });
    assert.deepEqual([logged().length, diskSpace.waitingFor], [1, '']);
  });

  for (const who of ['the signal of the run', 'the writer that closes', 'stopWaiting'] as const)
    test(`${who} ends the wait with DISK_FULL, and a later attempt is made once`, async () => {
      const closing = new AbortController();
      const { diskSpace, log, stop, logged } = create((second) => {
        if (second !== 5) return;
        if (who === 'stopWaiting') diskSpace.stopWaiting();
        else (who === 'the writer that closes' ? closing : stop).abort();
      });
      diskSpace.logTo(log);
      const work = failing(Infinity);
      await assert.rejects(diskSpace.keepTrying(work.attempt, closing.signal), {
        code: 'DISK_FULL',
        message: /ENOSPC/u,
      });
      assert.deepEqual([work.numAttempts, diskSpace.waitingFor], [6, '']);
      await assert.rejects(diskSpace.keepTrying(work.attempt, closing.signal), { code: 'DISK_FULL' });
      assert.equal(work.numAttempts, 7);
      assert.deepEqual(logged(), [['run paused by a full disk', 0]]);
    });

  test('two writes that wait are one pause, which is over when the last of them succeeds', async () => {
    const { diskSpace, log, logged } = create();
    diskSpace.logTo(log);
    await Promise.all([
      diskSpace.keepTrying(failing(3).attempt, neverClosed),
      diskSpace.keepTrying(failing(9).attempt, neverClosed),
    ]);
    assert.deepEqual(
      logged().map(([msg]) => msg),
      ['run paused by a full disk', 'run continues after a full disk'],
    );
    await diskSpace.keepTrying(failing(1).attempt, neverClosed);
    assert.deepEqual(logged().slice(2), [
      ['run paused by a full disk', 0],
      ['run continues after a full disk', 1_000],
    ]);
  });
});
