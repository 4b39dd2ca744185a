import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { describe, test } from 'node:test';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { RoomOnDisk } from './room-on-disk.ts';

const full = () => new TrainerError('DISK_FULL', 'cannot append to /run/journal: no room (ENOSPC); free space there');
const neverClosed = new AbortController().signal;

/** A room whose clock runs as fast as it is waited by; `onSleep` is told the second that begins. */
function createRoom(onSleep: (second: number) => void = () => undefined) {
  const stop = new AbortController();
  const records: LogRecord[] = [];
  let nowMs = 5_000;
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: async (ms, signal) => {
      onSleep((nowMs - 5_000) / 1_000);
      await new Promise(setImmediate);
      if (signal?.aborted === true) throw new TrainerError('ABORTED', 'called off');
      nowMs += ms;
    },
  };
  const room = new RoomOnDisk({ folder: tmpdir(), clock, signal: stop.signal });
  const log = createLogger({ onRecord: (record) => records.push(record) });
  const told = () => records.map(({ msg, forMs }) => [msg, forMs]);
  return { room, log, stop, records, told };
}

/** Fails as a full disk does so many times, then has a result. */
function failing(times: number) {
  const work = { numAttempts: 0, attempt: () => Promise.resolve('written') };
  work.attempt = () => (work.numAttempts++ < times ? Promise.reject(full()) : Promise.resolve('written'));
  return work;
}

describe('room on a full disk', () => {
  test('is asked for every second, told at once and every 30 s, and said to be there with how long it took', async () => {
    const waitingFor = new Set<string>();
    const { room, log, records, told } = createRoom(() => waitingFor.add(room.waitingFor));
    room.tellTo(log);
    const work = failing(62);
    assert.equal(await room.keepTrying(work.attempt, neverClosed), 'written');
    assert.equal(work.numAttempts, 63);
    const paused = 'run paused by a full disk';
    assert.deepEqual(told(), [
      [paused, 0],
      [paused, 30_000],
      [paused, 60_000],
      ['run goes on after a full disk', 62_000],
    ]);
    const [first] = records;
    assert.equal(first?.['folder'], tmpdir());
    assert.ok(Number(first['freeBytes']) > 0);
    assert.match(
      String(first['reason']),
      /^cannot append to \/run\/journal: no room .*goes on by itself once there is room$/u,
    );
    assert.deepEqual([...waitingFor], [first['reason']]);
    assert.equal(room.waitingFor, '');
  });

  test('is not waited for before there is a log to tell', async () => {
    const { room, log } = createRoom();
    const work = failing(1);
    await assert.rejects(room.keepTrying(work.attempt, neverClosed), { code: 'DISK_FULL' });
    assert.equal(work.numAttempts, 1);
    room.tellTo(log);
    assert.equal(await room.keepTrying(failing(1).attempt, neverClosed), 'written');
  });

  test('every other failure is final, at first and while room is waited for', async () => {
    const { room, log, told } = createRoom();
    room.tellTo(log);
    const broken = new TrainerError('PATH_UNUSABLE', 'cannot append to /run/journal (EIO)');
    await assert.rejects(
      room.keepTrying(() => Promise.reject(broken), neverClosed),
      { code: 'PATH_UNUSABLE' },
    );
    assert.deepEqual(told(), []);
    let numAttempts = 0;
    const later = () => Promise.reject(numAttempts++ < 3 ? full() : broken);
    await assert.rejects(room.keepTrying(later, neverClosed), { code: 'PATH_UNUSABLE' });
    assert.deepEqual([told().length, room.waitingFor], [1, '']);
  });

  for (const who of ['the signal of the room', 'the writer that closes', 'stopWaiting'] as const)
    test(`${who} ends the wait with DISK_FULL, and a later attempt is made once`, async () => {
      const closing = new AbortController();
      const { room, log, stop, told } = createRoom((second) => {
        if (second !== 5) return;
        if (who === 'stopWaiting') room.stopWaiting();
        else (who === 'the writer that closes' ? closing : stop).abort();
      });
      room.tellTo(log);
      const work = failing(Infinity);
      await assert.rejects(room.keepTrying(work.attempt, closing.signal), { code: 'DISK_FULL', message: /ENOSPC/u });
      assert.deepEqual([work.numAttempts, room.waitingFor], [6, '']);
      await assert.rejects(room.keepTrying(work.attempt, closing.signal), { code: 'DISK_FULL' });
      assert.equal(work.numAttempts, 7);
      assert.deepEqual(told(), [['run paused by a full disk', 0]]);
    });

  test('two that wait are one pause, which is over when the last of them has room', async () => {
    const { room, log, told } = createRoom();
    room.tellTo(log);
    await Promise.all([
      room.keepTrying(failing(3).attempt, neverClosed),
      room.keepTrying(failing(9).attempt, neverClosed),
    ]);
    assert.deepEqual(
      told().map(([msg]) => msg),
      ['run paused by a full disk', 'run goes on after a full disk'],
    );
    await room.keepTrying(failing(1).attempt, neverClosed);
    assert.deepEqual(told().slice(2), [
      ['run paused by a full disk', 0],
      ['run goes on after a full disk', 1_000],
    ]);
  });
});
