import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LogRecord } from '../shared/logger.ts';
import { ConsoleReporter, formatSeconds } from './console-reporter.ts';

const committed = (step: number): LogRecord => ({
  level: 'info',
  time: '2026-11-23T10:11:12.000Z',
  msg: 'step committed',
  step,
  steps: 40,
  loss: 5.12345,
  tokensPerSecond: 900,
  etaSeconds: 65,
});

function print(isTTY: boolean, act: (reporter: ConsoleReporter) => void): string {
  let text = '';
  act(new ConsoleReporter({ isTTY, write: (part) => (text += part) }));
  return text;
}

describe('console reporter', () => {
  test('without a terminal, every tenth step is a plain line', () => {
    const text = print(false, (reporter) => {
      for (let step = 1; step <= 40; step++) reporter.record(committed(step));
    });
    const steps = text
      .trimEnd()
      .split('\n')
      .map((line) => /step (\d+)\/40/u.exec(line)?.[1]);
    assert.deepEqual(steps, ['1', '10', '20', '30', '40']);
    assert.ok(text.startsWith('10:11:12 step 1/40 · loss 5.123 · 900 tokens/s · ETA 1 min 05 s\n'), text);
    assert.ok(!text.includes('\u001b'));
  });

  test('on a terminal, one progress line is rewritten in place and other lines are printed above it', () => {
    const text = print(true, (reporter) => {
      reporter.record(committed(20));
      reporter.line('hello');
      reporter.end();
    });
    const parts = text.split('\r\u001b[2K');
    assert.equal(parts.length, 3);
    assert.match(parts[1]!, /^█{12}░{12} step 20\/40/u);
    assert.match(parts[2]!, /^hello\n█{12}░{12} step 20\/40.*\n$/u);
  });

  test('any other record is printed as its message and fields, with the level of a warning or worse', () => {
    const text = print(false, (reporter) =>
      reporter.record({ level: 'warn', time: '2026-11-23T10:11:12Z', msg: 'worker exited', pid: 5, signal: null }),
    );
    assert.equal(text, '10:11:12 WARN worker exited pid=5\n');
  });

  for (const [seconds, text] of [
    [7, '7 s'],
    [65, '1 min 05 s'],
    [3725, '1 h 02 min'],
  ] as const) {
    test(`${seconds} seconds are ${text}`, () => assert.equal(formatSeconds(seconds), text));
  }
});
