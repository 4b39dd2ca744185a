import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { PrepareSnapshot, TaskSnapshot } from '../mixture/prepare/prepare-progress.ts';
import { formatSeconds } from './console-reporter.ts';
import { formatBytes, formatLiveTable, PrepareView } from './prepare-view.ts';

const task = (name: string, state: TaskSnapshot['state'], more: Partial<TaskSnapshot> = {}): TaskSnapshot => ({
  name,
  state,
  unitsDone: 1,
  numUnits: 4,
  bytesDone: 25,
  numBytes: 100,
  numRows: 1234,
  numExamples: 1200,
  numTokens: 56789,
  ...more,
});
const snapshot: PrepareSnapshot = {
  tasks: [
    task('a', 'done'),
    task('b', 'running', { tokensPerSecond: 1_234_567.8, secondsLeft: 61 }),
    task('c', 'failed'),
  ],
  total: task('', 'running'),
};

describe('the view of prepare', () => {
  test('shows the running tasks and a line of totals', () => {
    const lines = formatLiveTable(snapshot).split('\n');
    assert.match(lines[0]!, /^task +units +read +rows +examples +tokens +tokens\/s +left$/);
    assert.match(lines[1]!, /^b +1\/4 +25% +1,234 +1,200 +56,789 +1,234,568 +1 min 01 s$/);
    assert.match(lines[2]!, /^1 of 3 tasks done, 1 failed +1\/4 +25% .* - +-$/);
    assert.equal(lines.length, 4);
  });

  test('on a terminal, the live table is redrawn in place and permanent lines are printed above it', () => {
    const written: string[] = [];
    const view = new PrepareView({ write: (text) => written.push(text), isTerminal: true, nowMs: () => 0 });
    view.progress(snapshot);
    view.progress(snapshot);
    view.line('done\n');
    view.line('again\n');
    const up = '\u001b[3A\u001b[0J';
    const table = formatLiveTable(snapshot);
    assert.deepEqual(written, [table, up, table, up, 'done\n', 'again\n']);
  });

  test('without a terminal, prints a plain line every few seconds', () => {
    const written: string[] = [];
    let now = 0;
    const view = new PrepareView({ write: (text) => written.push(text), isTerminal: false, nowMs: () => now });
    for (; now <= 11_000; now += 1_000) view.progress(snapshot);
    assert.equal(written.length, 2);
    assert.match(
      written[0]!,
      /^ {2}25% of the sources read, 1\/4 units, 1,234 rows, 56,789 tokens, - tokens\/s, - left: b\n$/,
    );
  });

  for (const [seconds, text] of [
    [0.2, '1 s'],
    [59, '59 s'],
    [60, '1 min 00 s'],
    [3599, '59 min 59 s'],
    [3600, '1 h 00 min'],
    [90_061, '25 h 01 min'],
  ] as const)
    test(`${seconds} seconds are ${text}`, () => assert.equal(formatSeconds(Math.ceil(seconds)), text));

  for (const [bytes, text] of [
    [0, '0 B'],
    [999, '999 B'],
    [999_600, '1 MB'],
    [1_234_567, '1.23 MB'],
    [2e12, '2 TB'],
  ] as const)
    test(`${bytes} bytes are ${text}`, () => assert.equal(formatBytes(bytes), text));
});
