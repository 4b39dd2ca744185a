import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { carryCursor, compareTasks } from './carry-cursor.ts';
import { locateTasks, planCursorSchema, type PlanCursor } from './plan-cursor.ts';
import { Planner, type PlanConfig, type SharesChange, type TaskLengths } from './planner.ts';
import type { PlannedExample, PlannedRow } from './planned-rows.ts';

const taskOf = (name: string, numExamples: number, length = 9): TaskLengths => ({
  name,
  numExamples,
  inputsLength: (index) => 1 + ((index * 7 + length) % 40),
  targetsLength: (index) => 1 + ((index * 3 + length) % 12),
});
const TASKS = [taskOf('big', 500), taskOf('small', 7), taskOf('middle', 60)];
const CONFIG: PlanConfig = { seed: 5, inputsLimit: 64, targetsLimit: 24, windowDraws: 60, shares: [0.5, 0.2, 0.3] };
const throughJson = (cursor: PlanCursor) => planCursorSchema.parse(JSON.parse(JSON.stringify(cursor)));

const sharesArbitrary = fc
  .array(fc.integer({ min: 0, max: 20 }), { minLength: 3, maxLength: 3 })
  .filter((raw) => raw.some((value) => value > 0))
  .map((raw) => raw.map((value) => value / raw.reduce((a, b) => a + b, 0)));

/** Rows of a planner until it reaches this window, then `extra` more. */
function takeTo(planner: Planner, window: number, extra = 0): PlannedRow[] {
  const rows: PlannedRow[] = [];
  while (planner.cursor().window < window) rows.push(...planner.nextRows(1));
  return [...rows, ...planner.nextRows(extra)];
}

/** Checks that no (task, epoch, example) comes twice, and that each epoch with a later one is complete. */
function assertOnce(
  examples: readonly (PlannedExample & { name: string })[],
  sizes: ReadonlyMap<string, number>,
): void {
  for (const [name, size] of sizes) {
    const own = examples.filter((example) => example.name === name);
    const epochs = new Map<number, number[]>();
    for (const { epoch, index } of own) epochs.set(epoch, [...(epochs.get(epoch) ?? []), index]);
    for (const [epoch, indexes] of epochs) {
      assert.equal(new Set(indexes).size, indexes.length, `${name} epoch ${epoch}: no example twice`);
      // Owed draws of an epoch come before two later epochs begin.
      if (epochs.has(epoch + 2)) assert.equal(indexes.length, size, `${name} epoch ${epoch} is whole`);
    }
  }
}

describe('changes of shares', () => {
  test('made at any row, also with resumes, equal a plan that has them from the start', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 50 }), sharesArbitrary, fc.boolean()), { maxLength: 6 }),
        (actions) => {
          let planner = new Planner(CONFIG, TASKS);
          const rows: PlannedRow[] = [];
          for (const [numRows, shares, isResumed] of actions) {
            rows.push(...planner.nextRows(numRows));
            const { window, rowsBefore } = planner.nextWindow();
            assert.ok(rowsBefore > 0);
            planner.changeShares({ window, shares });
            if (isResumed) planner = new Planner(planner.config, TASKS, throughJson(planner.cursor()));
          }
          rows.push(...planner.nextRows(100));
          assert.deepEqual(new Planner(planner.config, TASKS).nextRows(rows.length), rows);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('before its window the old shares are exact, from then on the new ones; each example comes once in its epoch', () => {
    const after = [0.1, 0.6, 0.3];
    const planner = new Planner({ ...CONFIG, changes: [{ window: 3, shares: after }] }, TASKS);
    const counts = (rows: PlannedRow[]) => TASKS.map((_, task) => rows.flat().filter((e) => e.task === task).length);
    const before = takeTo(planner, 3);
    assert.deepEqual(planner.cursor().credits, [0, 0, 0]);
    const later = takeTo(planner, 5);
    counts(before).forEach((count, task) => assert.ok(Math.abs(count - 180 * CONFIG.shares[task]!) < 1));
    counts(later).forEach((count, task) => assert.ok(Math.abs(count - 120 * after[task]!) < 1));
    const named = [...before, ...later].flat().map((example) => ({ ...example, name: TASKS[example.task]!.name }));
    assertOnce(named, new Map(TASKS.map(({ name, numExamples }) => [name, numExamples])));
  });

  test('a change replaces those of its window and of later windows', () => {
    const planner = new Planner(CONFIG, TASKS);
    const shares = [1, 0, 0];
    planner.changeShares({ window: 4, shares: [0, 1, 0] });
    planner.changeShares({ window: 2, shares });
    planner.changeShares({ window: 7, shares });
    planner.changeShares({ window: 7, shares: [0, 0, 1] });
    assert.deepEqual(planner.config.changes, [
      { window: 2, shares },
      { window: 7, shares: [0, 0, 1] },
    ]);
  });

  test('a cursor before a change does not depend on it; a cursor after it belongs to another plan', () => {
    const changes: SharesChange[] = [{ window: 2, shares: [0.2, 0.3, 0.5] }];
    const changed = new Planner({ ...CONFIG, changes }, TASKS);
    takeTo(changed, 1, 3);
    assert.deepEqual(new Planner(CONFIG, TASKS, changed.cursor()).cursor(), changed.cursor());
    takeTo(changed, 2);
    assert.throws(() => new Planner(CONFIG, TASKS, changed.cursor()), { code: 'MIXTURE_MISMATCH' });
  });

  test('a planned window cannot change, and shares must be valid', () => {
    const planner = new Planner(CONFIG, TASKS);
    takeTo(planner, 2, 1);
    for (const [window, shares] of [
      [2, [1, 0, 0]],
      [3.5, [1, 0, 0]],
      [3, [1, 0]],
      [3, [0.5, 0, 0]],
    ] as const)
      assert.throws(() => planner.changeShares({ window, shares }), { code: 'CONFIG_INVALID' });
    assert.equal(planner.config.changes, undefined);
  });
});

describe('a changed mixture', () => {
  test('unchanged tasks continue: each example once in each epoch, from any row, through any number of changes', () => {
    const now = [taskOf('new', 33), taskOf('middle', 60), taskOf('big', 500), taskOf('small', 9)];
    const shares = [0.25, 0.25, 0.3, 0.2];
    const changed = { ...CONFIG, shares, windowDraws: 47 };
    const middle = new Map([
      ['big', 500],
      ['middle', 60],
    ]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 130 }), { minLength: 1, maxLength: 4 }), (stops) => {
        let [config, tasks] = [CONFIG, TASKS as readonly TaskLengths[]];
        let planner = new Planner(config, tasks);
        const examples: (PlannedExample & { name: string })[] = [];
        const take = (numRows: number) => {
          for (const example of planner.nextRows(numRows).flat())
            examples.push({ ...example, name: tasks[example.task]!.name });
        };
        for (const stop of stops) {
          take(stop);
          const given = new Map(locateTasks(planner.cursor()).map(({ name, numGiven }) => [name, numGiven]));
          for (const [name] of middle)
            assert.equal(given.get(name), examples.filter((example) => example.name === name).length);
          [config, tasks] = config === CONFIG ? [changed, now] : [CONFIG, TASKS];
          planner = new Planner(config, tasks, throughJson(carryCursor(throughJson(planner.cursor()), config, tasks)));
          assert.equal(planner.cursor().row, 0);
        }
        take(300);
        assertOnce(examples, middle);
        // A resized task never repeats the number of an epoch.
        const small = examples.filter(({ name }) => name === 'small').map(({ epoch, index }) => `${epoch} ${index}`);
        assert.equal(new Set(small).size, small.length);
      }),
      { numRuns: 50 },
    );
  });

  test('draws that were not handed out come first', () => {
    const planner = new Planner(CONFIG, TASKS);
    takeTo(planner, 1, 4);
    const before = locateTasks(planner.cursor());
    const cursor = carryCursor(planner.cursor(), CONFIG, TASKS);
    assert.deepEqual(
      locateTasks(cursor).map(({ name, next, owed, numGiven }) => ({ name, next, owed, numGiven })),
      before.map(({ name, next, owed, numGiven }) => ({ name, next, owed, numGiven })),
    );
    assert.ok(before.every(({ owed }) => owed.length > 0));
    assert.deepEqual([cursor.window, cursor.row, cursor.credits], [2, 0, [0, 0, 0]]);
  });

  test('a resized task begins the epoch after its last begun epoch; a removed task is forgotten', () => {
    const planner = new Planner(CONFIG, TASKS);
    takeTo(planner, 2);
    const now = [taskOf('small', 4), taskOf('big', 500)];
    const cursor = carryCursor(planner.cursor(), { ...CONFIG, shares: [0.5, 0.5] }, now);
    // 24 draws of 7 examples: epochs 0 to 3 have begun.
    assert.deepEqual(cursor.drawn, [16, 60]);
    assert.deepEqual(
      locateTasks(cursor).map(({ numGiven, owed }) => [numGiven, owed.length]),
      [
        [24, 0],
        [60, 0],
      ],
    );
    const later = takeTo(new Planner({ ...CONFIG, shares: [0.5, 0.5] }, now, cursor), 3).flat();
    assert.equal(Math.min(...later.flatMap(({ task, epoch }) => (task === 0 ? [epoch] : []))), 4);
  });

  test('at the end of a window nothing is owed, and the plan continues with the next window', () => {
    const planner = new Planner(CONFIG, TASKS);
    takeTo(planner, 3);
    const cursor = carryCursor(planner.cursor(), CONFIG, TASKS);
    assert.deepEqual([cursor.window, cursor.pending], [3, [[], [], []]]);
    assert.deepEqual(cursor.drawn, planner.cursor().drawn);
  });

  test('is compared by task names and sizes', () => {
    assert.deepEqual(compareTasks(TASKS, [taskOf('small', 9), taskOf('big', 500), taskOf('new', 3)]), [
      { name: 'small', change: 'resized', numBefore: 7, numNow: 9 },
      { name: 'new', change: 'added', numBefore: 0, numNow: 3 },
      { name: 'middle', change: 'removed', numBefore: 60, numNow: 0 },
    ]);
    assert.deepEqual(compareTasks(TASKS, TASKS), []);
  });
});
