import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PrepareProgress } from './prepare-progress.ts';
import { addCounts, type UnitCounts } from './unit-counts.ts';

const counts = (rows: number, numTokens: number): UnitCounts => ({
  ...addCounts([]),
  numExamples: rows,
  numTokens,
  rows: { read: rows, withExamples: rows, leftOut: 0, malformed: 0 },
});
const running = (bytesRead: number, numTokens: number) => ({ bytesRead, numRows: 1, numExamples: 1, numTokens });

describe('progress', () => {
  test('adds up finished and running units, and gives rate and time left', () => {
    const progress = new PrepareProgress([
      { name: 'a', unitBytes: [100, 100] },
      { name: 'b', unitBytes: [200] },
    ]);
    const first = progress.snapshot(0);
    assert.deepEqual(
      first.tasks.map(({ state }) => state),
      ['waiting', 'waiting'],
    );
    assert.equal(first.total.tokensPerSecond, undefined);
    progress.done('a', 0, 100, counts(10, 1000), true);
    progress.running('b', 0, 200, running(50, 500));
    const { tasks, total } = progress.snapshot(10_000);
    assert.deepEqual(
      tasks.map(({ state, bytesDone, numTokens }) => [state, bytesDone, numTokens]),
      [
        ['running', 100, 1000],
        ['running', 50, 500],
      ],
    );
    assert.equal(total.tokensPerSecond, 150);
    assert.equal(total.secondsLeft, 250 / 15);
    assert.deepEqual([total.unitsDone, total.numUnits, total.numRows], [1, 3, 11]);
  });

  test('rates do not count units that existed before, nor bytes that a dead process had read', () => {
    const progress = new PrepareProgress([{ name: 'a', unitBytes: [100, 100] }]);
    progress.snapshot(0);
    progress.done('a', 0, 100, counts(10, 1000), false);
    assert.equal(progress.snapshot(1_000).total.tokensPerSecond, undefined);
    progress.running('a', 1, 100, running(90, 900));
    progress.lost('a', 1);
    assert.equal(progress.snapshot(2_000).total.bytesDone, 100);
  });

  test('rates cover only the last seconds', () => {
    const progress = new PrepareProgress([{ name: 'a', unitBytes: [1000, 1000] }]);
    progress.snapshot(0);
    progress.done('a', 0, 1000, counts(1, 100_000), true);
    for (let second = 1; second <= 60; second++) {
      progress.running('a', 1, 1000, running(second, second));
      progress.snapshot(1000 * second);
    }
    const { tokensPerSecond } = progress.snapshot(60_500).total;
    assert.ok(tokensPerSecond !== undefined && tokensPerSecond < 2, String(tokensPerSecond));
  });

  test('shows finished and failed tasks, and ignores bytes beyond the size of a unit', () => {
    const progress = new PrepareProgress([
      { name: 'a', unitBytes: [10] },
      { name: 'b', unitBytes: [10] },
    ]);
    progress.running('a', 0, 10, running(999, 1));
    assert.equal(progress.snapshot(0).total.bytesDone, 10);
    progress.done('a', 0, 10, counts(1, 1), true);
    progress.failed('b');
    const { tasks, total } = progress.snapshot(1);
    assert.deepEqual(
      tasks.map(({ state }) => state),
      ['done', 'failed'],
    );
    assert.equal(total.state, 'done');
  });
});
