import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createLogger, type LogRecord } from './logger.ts';
import { ManualClock } from './manual-clock.fixture.ts';
import { MAX_LINES, RefusalLog, WINDOW_MS } from './refusal-log.ts';

const REFUSAL = { remote: '127.0.0.1:9', code: 'AUTH_FAILED', reason: 'no token' } as const;

function start() {
  const clock = new ManualClock();
  const records: LogRecord[] = [];
  const log = new RefusalLog(createLogger({ onRecord: (record) => records.push(record) }), clock);
  return { log, records, pass: (ms: number) => clock.advance(ms) };
}

describe('refusal log', () => {
  test('a refusal is a warning with remote, code and reason', () => {
    const { log, records } = start();
    log.refused(REFUSAL);
    const { level, msg, remote, code, reason } = records[0]!;
    assert.deepEqual({ level, msg, remote, code, reason }, { level: 'warn', msg: 'connection refused', ...REFUSAL });
  });

  test('many refusals give a bounded number of lines, and the end of the window tells how many were left out', async () => {
    const { log, records, pass } = start();
    for (let i = 0; i < 1_000; i++) log.refused(REFUSAL);
    for (let i = 0; i < 30; i++) log.refused({ ...REFUSAL, remote: `10.0.0.2:${i}`, code: 'JOIN_REFUSED' });
    assert.equal(records.length, MAX_LINES);
    await pass(WINDOW_MS);
    assert.equal(records.length, MAX_LINES + 1);
    const { level, msg, leftOut, byCode, remotes } = records.at(-1)!;
    assert.deepEqual(
      { level, msg, leftOut, byCode, remotes },
      {
        level: 'warn',
        msg: 'connections refused',
        leftOut: 1_030 - MAX_LINES,
        byCode: { AUTH_FAILED: 1_000 - MAX_LINES, JOIN_REFUSED: 30 },
        remotes: 2,
      },
    );
    log.refused(REFUSAL);
    assert.equal(records.length, MAX_LINES + 2, 'the next window has lines again');
    await pass(2 * WINDOW_MS);
    assert.equal(records.length, MAX_LINES + 2, 'nothing was left out in it');
  });

  test('closing it tells the number at once, and once', async () => {
    const { log, records, pass } = start();
    for (let i = 0; i < MAX_LINES + 3; i++) log.refused(REFUSAL);
    log.close();
    log.close();
    await pass(WINDOW_MS);
    assert.deepEqual(
      records.slice(MAX_LINES).map(({ msg, leftOut }) => [msg, leftOut]),
      [['connections refused', 3]],
    );
  });

  test('lines of another kind are bounded and counted with the others', () => {
    const { log, records } = start();
    let numWritten = 0;
    for (let i = 0; i < MAX_LINES + 1; i++) log.bound(REFUSAL, () => numWritten++);
    log.close();
    assert.equal(numWritten, MAX_LINES);
    assert.equal(records.at(-1)!['leftOut'], 1);
  });
});
