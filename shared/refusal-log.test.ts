import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Clock } from './clock.ts';
import { createLogger, type LogRecord } from './logger.ts';
import { MAX_LINES, RefusalLog, WINDOW_MS } from './refusal-log.ts';

const REFUSAL = { remote: '127.0.0.1:9', code: 'AUTH_FAILED', reason: 'no token' } as const;

function start() {
  let nowMs = 0;
  const records: LogRecord[] = [];
  const clock: Clock = { monotonicMs: () => nowMs, wallMs: () => nowMs, sleep: () => Promise.resolve() };
  const log = new RefusalLog(createLogger({ onRecord: (record) => records.push(record) }), clock);
  return { log, records, pass: (ms: number) => (nowMs += ms) };
}

describe('refusal log', () => {
  test('a refusal is a warning with remote, code and reason', () => {
    const { log, records } = start();
    log.refused(REFUSAL);
    const { level, msg, remote, code, reason } = records[0]!;
    assert.deepEqual({ level, msg, remote, code, reason }, { level: 'warn', msg: 'connection refused', ...REFUSAL });
  });

  test('many refusals give a bounded number of lines, and the next window counts the rest', () => {
    const { log, records, pass } = start();
    for (let i = 0; i < 1_000; i++) log.refused(REFUSAL);
    assert.equal(records.length, MAX_LINES);
    pass(WINDOW_MS);
    log.refused(REFUSAL);
    assert.equal(records.length, MAX_LINES + 1);
    assert.equal(records.at(-1)?.['leftOut'], 1_000 - MAX_LINES);
    log.refused(REFUSAL);
    assert.equal(records.at(-1)?.['leftOut'], undefined);
  });
});
