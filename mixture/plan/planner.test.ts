import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { hashName } from '../../shared/random.ts';
import type { PlannedRow } from './planned-rows.ts';
import { planCursorSchema } from './plan-cursor.ts';
import { Planner, type PlanConfig, type PlanCursor, type TaskLengths } from './planner.ts';

/** A task whose lengths are a fixed function of the example. */
function taskOf(name: string, numExamples: number, maxInputs = 60, maxTargets = 20): TaskLengths {
  const lengthOf = (index: number, salt: string, max: number) => 1 + (hashName(`${name} ${salt} ${index}`) % max);
  return {
    name,
    numExamples,
    inputsLength: (index) => lengthOf(index, 'inputs', maxInputs),
    targetsLength: (index) => lengthOf(index, 'targets', maxTargets),
  };
}

const full: TaskLengths = { name: 'c4', numExamples: 1000, inputsLength: () => 64, targetsLength: () => 24 };
const TASKS = [taskOf('big', 500), taskOf('small', 7), taskOf('unused', 0), full];
const CONFIG: PlanConfig = {
  seed: 5,
  inputsLimit: 64,
  targetsLimit: 24,
  windowDraws: 60,
  shares: [0.25, 1 / 12, 0, 2 / 3],
};
/** Rows of whole windows, read one row at a time. */
function takeWindows(planner: Planner, numWindows: number): PlannedRow[][] {
  const windows: PlannedRow[][] = [];
  while (windows.length < numWindows) {
    const window: PlannedRow[] = [];
    do window.push(...planner.nextRows(1));
    while (planner.cursor().row !== 0);
    windows.push(window);
  }
  return windows;
}
const throughJson = (cursor: PlanCursor) => planCursorSchema.parse(JSON.parse(JSON.stringify(cursor)));

describe('planner', () => {
  test('stopping after any row and resuming from the cursor as JSON gives the same rows', () => {
    const whole = new Planner(CONFIG, TASKS).nextRows(260);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 70 }), { maxLength: 3 }), (stops) => {
        let planner = new Planner(CONFIG, TASKS);
        const rows: PlannedRow[] = [];
        for (const stop of stops) {
          rows.push(...planner.nextRows(stop));
          planner = new Planner(CONFIG, TASKS, throughJson(planner.cursor()));
        }
        rows.push(...planner.nextRows(260 - rows.length));
        assert.deepEqual(rows, whole);
      }),
      { numRuns: 80 },
    );
  });

  test('the rows do not depend on how many are requested at a time', () => {
    const whole = new Planner(CONFIG, TASKS).nextRows(200);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 12 }), (sizes) => {
        const planner = new Planner(CONFIG, TASKS);
        const rows = sizes.flatMap((size) => planner.nextRows(size)).slice(0, 200);
        assert.deepEqual(rows, whole.slice(0, rows.length));
      }),
      { numRuns: 60 },
    );
  });

  test('each example comes exactly once in each epoch of its task, for any mixture', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 5 }),
        fc.nat(),
        fc.integer({ min: 1, max: 80 }),
        (sizes, seed, windowDraws) => {
          const tasks = sizes.map((size, i) => taskOf(`task ${i}`, size));
          const config = { ...CONFIG, seed, windowDraws, shares: sizes.map(() => 1 / sizes.length) };
          const numWindows = Math.ceil(400 / windowDraws);
          const drawn = takeWindows(new Planner(config, tasks), numWindows).flat(2);
          assert.equal(drawn.length, numWindows * windowDraws);
          sizes.forEach((size, task) => {
            const own = drawn.filter((example) => example.task === task);
            const epochs = new Map<number, number[]>();
            for (const { epoch, index } of own) epochs.set(epoch, [...(epochs.get(epoch) ?? []), index]);
            assert.equal(epochs.size, Math.ceil(own.length / size));
            for (const [epoch, indexes] of epochs) {
              assert.equal(new Set(indexes).size, indexes.length, 'no example twice');
              assert.ok(indexes.every((index) => index >= 0 && index < size));
              if ((epoch + 1) * size <= own.length) assert.equal(indexes.length, size, 'a past epoch is whole');
            }
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  test('each task is within one draw of its exact share at window boundaries, and within its bound inside a window', () => {
    const planner = new Planner(CONFIG, TASKS);
    const counts = TASKS.map(() => 0);
    let numDraws = 0;
    for (const window of takeWindows(planner, 40)) {
      for (const { task } of window.flat()) {
        counts[task] = counts[task]! + 1;
        numDraws += 1;
        CONFIG.shares.forEach((share, i) =>
          assert.ok(Math.abs(counts[i]! - numDraws * share) <= CONFIG.windowDraws * share + 1),
        );
      }
      CONFIG.shares.forEach((share, i) => assert.ok(Math.abs(counts[i]! - numDraws * share) < 1 + 1e-9));
    }
    assert.deepEqual(planner.cursor().drawn, counts);
    assert.equal(numDraws, 40 * 60);
  });

  test('no row exceeds a limit, and a full denoising example is alone in its row', () => {
    const rows = new Planner(CONFIG, TASKS).nextRows(400);
    for (const row of rows) {
      assert.ok(row.reduce((sum, { task, index }) => sum + TASKS[task]!.inputsLength(index), 0) <= CONFIG.inputsLimit);
      assert.ok(
        row.reduce((sum, { task, index }) => sum + TASKS[task]!.targetsLength(index), 0) <= CONFIG.targetsLimit,
      );
      if (row.some(({ task }) => task === 3)) assert.equal(row.length, 1);
    }
    assert.ok(rows.some((row) => row.length > 1));
    assert.ok(rows.flat().some(({ task }) => task === 3));
  });

  test('full and sparse rows are mixed inside a window, in another order in each', () => {
    const [first, second] = takeWindows(new Planner({ ...CONFIG, windowDraws: 600 }, TASKS), 2);
    const isDenoising = (rows: PlannedRow[]) => rows.map((row) => row[0]!.task === 3);
    const places = isDenoising(first!).flatMap((is, i) => (is ? [] : [i]));
    const mean = places.reduce((a, b) => a + b, 0) / places.length / first!.length;
    assert.ok(mean > 0.4 && mean < 0.6, `mean place of supervised rows ${mean}`);
    assert.notDeepEqual(isDenoising(first!), isDenoising(second!));
  });

  test('the seed changes the rows, and each epoch has another order of examples', () => {
    const take = (seed: number) => new Planner({ ...CONFIG, seed }, TASKS).nextRows(50);
    assert.deepEqual(take(1), take(1));
    assert.notDeepEqual(take(1), take(2));
    const alone = { ...CONFIG, windowDraws: 80, shares: [1] };
    const drawn = takeWindows(new Planner(alone, [taskOf('only', 40)]), 1).flat(2);
    const pairs = [0, 1].map((epoch) => drawn.filter((example) => example.epoch === epoch).map(({ index }) => index));
    assert.notDeepEqual(pairs[0], pairs[1]);
  });

  test('tasks of equal lengths are not packed in the order of the schedule', () => {
    const half = (name: string): TaskLengths => ({
      name,
      numExamples: 99,
      inputsLength: () => 32,
      targetsLength: () => 5,
    });
    const rows = new Planner({ ...CONFIG, shares: [0.5, 0.5] }, [half('a'), half('b')]).nextRows(30);
    const kinds = new Set(rows.map((row) => row.map(({ task }) => task).join()));
    assert.deepEqual([...kinds].sort(), ['0,0', '0,1', '1,0', '1,1']);
  });

  test('the single sparse row of a window has another position in each window', () => {
    const third: TaskLengths = { name: 'third', numExamples: 99, inputsLength: () => 20, targetsLength: () => 5 };
    const windows = takeWindows(new Planner({ ...CONFIG, shares: [1], windowDraws: 31 }, [third]), 12);
    const places = windows.map((rows) => rows.findIndex((row) => row.length === 1));
    assert.ok(new Set(places).size > 4, `places ${places.join()}`);
  });

  test('the seed changes which examples come first', () => {
    const first = (seed: number) => {
      const planner = new Planner({ ...CONFIG, seed, windowDraws: 20, shares: [1] }, [taskOf('only', 1000)]);
      return new Set(
        takeWindows(planner, 1)
          .flat(2)
          .map(({ index }) => index),
      );
    };
    assert.notDeepEqual(first(1), first(2));
  });

  test('examples that share a window change from one epoch to the next', () => {
    const config = { ...CONFIG, windowDraws: 20, shares: [1] };
    const windows = takeWindows(new Planner(config, [taskOf('only', 40)]), 4);
    const sets = windows.map((rows) => new Set(rows.flat().map(({ index }) => index)));
    assert.notDeepEqual(sets[0], sets[2]);
    assert.equal(new Set([...sets[2]!, ...sets[3]!]).size, 40);
  });

  test('the order of a task depends on its name, not on its number in the mixture', () => {
    const order = (tasks: TaskLengths[], name: string) => {
      const shares = tasks.map(() => 1 / tasks.length);
      const number = tasks.findIndex((task) => task.name === name);
      const drawn = takeWindows(new Planner({ ...CONFIG, shares, windowDraws: 40 }, tasks), 1).flat(2);
      return new Set(drawn.flatMap(({ task, index }) => (task === number ? [index] : [])));
    };
    const a = taskOf('a', 300);
    const b = taskOf('b', 300);
    assert.deepEqual(order([a, b], 'b'), order([b, a], 'b'));
    assert.notDeepEqual(order([a, b], 'a'), order([a, b], 'b'));
  });

  test('the cursor of a new planner is the start', () => {
    const { fingerprint, window, row, credits, drawn, pending } = new Planner(CONFIG, TASKS).cursor();
    assert.deepEqual(
      { window, row, credits, drawn, pending },
      { window: 0, row: 0, credits: [0, 0, 0, 0], drawn: [0, 0, 0, 0], pending: [[], [], [], []] },
    );
    assert.ok(fingerprint > 0);
  });
});

describe('planner rejects', () => {
  const tooLong: TaskLengths = { name: 'long', numExamples: 3, inputsLength: (i) => 63 + i, targetsLength: () => 1 };
  for (const [what, config, tasks, code, message] of [
    ['a share without examples', { shares: [0.5, 0, 0.5, 0] }, TASKS, 'CONFIG_INVALID', /unused .* 0 examples/],
    ['shares of other tasks', { shares: [1] }, TASKS, 'CONFIG_INVALID', /each of 4 tasks, found 1/],
    ['a window without draws', { windowDraws: 0 }, TASKS, 'CONFIG_INVALID', /windowDraws/],
    ['a limit that is not a whole number', { inputsLimit: 1.5 }, TASKS, 'CONFIG_INVALID', /inputsLimit/],
    ['a negative seed', { seed: -1 }, TASKS, 'CONFIG_INVALID', /seed/],
    [
      'changes whose windows do not increase',
      { changes: [3, 3].map((window) => ({ window, shares: CONFIG.shares })) },
      TASKS,
      'CONFIG_INVALID',
      /increasing window numbers, found 3 after 3/,
    ],
    [
      'a change that gives a share without examples',
      { changes: [{ window: 1, shares: [0.5, 0, 0.5, 0] }] },
      TASKS,
      'CONFIG_INVALID',
      /unused .* 0 examples/,
    ],
    [
      'an example over the limits',
      { shares: [1] },
      [tooLong],
      'MIXTURE_MISMATCH',
      /task long example 2: expected at most 64/,
    ],
  ] as const)
    test(what, () => {
      assert.throws(() => new Planner({ ...CONFIG, ...config }, tasks), { code, message });
    });

  const cursor = () => {
    const planner = new Planner(CONFIG, TASKS);
    planner.nextRows(130);
    return planner.cursor();
  };
  for (const [what, config, tasks] of [
    ['seed', { seed: 6 }, TASKS],
    ['limit', { targetsLimit: 25 }, TASKS],
    ['window', { windowDraws: 61 }, TASKS],
    ['share', { shares: [1 / 12, 0.25, 0, 2 / 3] }, TASKS],
    ['task', {}, [taskOf('other', 500), ...TASKS.slice(1)]],
    ['number of examples', {}, [taskOf('big', 501), ...TASKS.slice(1)]],
  ] as const)
    test(`a cursor of a plan with another ${what}`, () => {
      assert.throws(() => new Planner({ ...CONFIG, ...config }, tasks, cursor()), { code: 'MIXTURE_MISMATCH' });
    });

  test('a cursor after the last row of its window', () => {
    assert.throws(() => new Planner(CONFIG, TASKS, { ...cursor(), row: 60 }), {
      code: 'MIXTURE_MISMATCH',
      message: /after row 60/,
    });
  });

  test('a cursor whose credits do not add up to 0', () => {
    const damaged = cursor();
    assert.throws(() => new Planner(CONFIG, TASKS, { ...damaged, credits: [1, ...damaged.credits.slice(1)] }), {
      code: 'CHECKPOINT_CORRUPT',
    });
  });

  for (const [what, damage] of [
    ['lists of other lengths', { drawn: [1] }],
    ['bits of other draws', { given: 'AA==' }],
    ['a pending draw that is not below the next one', { pending: [[10 ** 6], [], [], []] }],
    ['more pending draws than were taken', { shift: [10 ** 6, 0, 0, 0] }],
  ] as const)
    test(`a cursor with ${what}`, () => {
      const damaged = planCursorSchema.parse({ ...cursor(), ...damage });
      assert.throws(() => new Planner(CONFIG, TASKS, damaged), { code: 'CHECKPOINT_CORRUPT' });
    });

  test('a cursor that does not match its schema', () => {
    for (const damage of [
      { row: -1 },
      { window: 0.5 },
      { credits: [2 ** 48] },
      { drawn: [-1] },
      { version: 1 },
      { given: '?' },
      { extra: 1 },
    ])
      assert.equal(planCursorSchema.safeParse({ ...cursor(), ...damage }).success, false);
    assert.equal(planCursorSchema.safeParse(cursor()).success, true);
  });
});
