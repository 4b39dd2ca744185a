import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createInversePermutation } from '../../mixture/plan/permutation.ts';
import type { PlannedExample } from '../../mixture/plan/planned-rows.ts';
import { Planner } from '../../mixture/plan/planner.ts';
import { hashName } from '../../shared/random.ts';
import { roundLoss } from './figures-codec.ts';
import type { StepToRecord } from './ledger-step.ts';
import { StepDecoder, StepEncoder } from './step-codec.ts';

const SEED = 5;
const TASKS = [
  { name: 'small', numExamples: 3 },
  { name: 'medium', numExamples: 300 },
  { name: 'large', numExamples: 2 ** 31 - 1 },
];
const INIT = { seed: SEED, tasks: TASKS, bases: [0, 0, 0] };
const NO_FIGURES: Omit<StepToRecord, 'lanes'> = {
  step: 1,
  generation: 1,
  gradDigest: 0,
  loss: 1,
  gradNorm: 1,
  learningRate: 1,
  tasks: [],
};

/** Any example, also one that repeats, leaps ahead or does not exist. */
const anyExample = fc.record(
  {
    task: fc.nat(2),
    index: fc.oneof(fc.nat(5), fc.nat(), fc.constant(2 ** 32 - 1)),
    epoch: fc.oneof(fc.nat(2), fc.nat(), fc.constant(2 ** 32 - 1)),
  },
  { noNullPrototype: true },
);
const lanesOf = (example: fc.Arbitrary<PlannedExample>) =>
  fc.array(fc.array(fc.array(example, { maxLength: 5 }), { maxLength: 4 }), { maxLength: 3 });
const anyFigures = fc.record(
  {
    step: fc.nat(),
    generation: fc.nat(),
    gradDigest: fc.nat(2 ** 32 - 1),
    loss: fc.double({ noNaN: true }),
    gradNorm: fc.float({ noNaN: true }),
    learningRate: fc.double({ noNaN: true }),
    tasks: fc
      .uniqueArray(
        fc.record(
          {
            task: fc.nat(2),
            numExamples: fc.nat(),
            inputTokens: fc.oneof(fc.nat(), fc.constantFrom(2 ** 53 - 1, 2 ** 52, 2 ** 49 - 1)),
            targetTokens: fc.nat(),
            loss: fc.option(fc.float({ noNaN: true, noDefaultInfinity: true }), { nil: undefined }),
          },
          { noNullPrototype: true },
        ),
        { selector: ({ task }) => task },
      )
      .map((tasks) =>
        tasks
          .sort((a, b) => a.task - b.task)
          .map(({ loss, ...task }) => (loss === undefined ? task : { ...task, loss })),
      ),
  },
  { noNullPrototype: true },
);

/** The same without draw numbers, and with losses as they are kept. */
const asKept = (step: StepToRecord) => ({
  ...step,
  tasks: step.tasks.map((task) => (task.loss === undefined ? task : { ...task, loss: roundLoss(task.loss) })),
});

describe('a step as bytes', () => {
  test('comes back as it was, whatever the examples and the floors are', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            figures: anyFigures,
            lanes: lanesOf(anyExample),
            floors: fc.array(fc.nat(2000), { maxLength: 3 }),
          }),
          { maxLength: 8 },
        ),
        (steps) => {
          const encoder = new StepEncoder(INIT);
          const decoder = new StepDecoder(INIT, true);
          const figuresAlone = new StepDecoder(INIT, false);
          for (const { figures, lanes, floors } of steps) {
            const payload = encoder.encode({ ...figures, lanes }, floors);
            const found = decoder.decode(payload);
            const plain = found.lanes.map((rows) =>
              rows.map((row) => row.map(({ task, index, epoch }) => ({ task, index, epoch }))),
            );
            assert.deepEqual({ ...found, lanes: plain }, asKept({ ...figures, lanes }));
            assert.deepEqual({ ...figuresAlone.decode(payload), lanes }, asKept({ ...figures, lanes }));
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('the draw of each example is its number in the order of its task', () => {
    const planner = new Planner(
      { seed: SEED, inputsLimit: 8, targetsLimit: 8, windowDraws: 64, shares: [0.25, 0.25, 0.5] },
      TASKS.map((task) => ({ ...task, inputsLength: (i) => 1 + (i % 5), targetsLength: () => 2 })),
    );
    const encoder = new StepEncoder(INIT);
    const decoder = new StepDecoder(INIT, true);
    const drawn = TASKS.map((): number[] => []);
    for (let step = 1; step <= 60; step++) {
      const lanes = [planner.nextRows(4), planner.nextRows(4)];
      const found = decoder.decode(encoder.encode({ ...NO_FIGURES, step, lanes }, []));
      for (const { task, index, epoch, draw } of found.lanes.flat(2)) {
        const { name, numExamples } = TASKS[task]!;
        const names = [SEED, hashName('example-order'), hashName(name), epoch];
        assert.equal(draw, epoch * numExamples + createInversePermutation(names, numExamples)(index));
        drawn[task]!.push(draw);
      }
    }
    for (const draws of drawn) {
      const { length } = draws;
      assert.ok(length > 30);
      assert.equal(new Set(draws).size, length);
      assert.ok(Math.max(...draws) < length + 64, 'the draws are the first ones, but for the window under way');
    }
    encoder.bases.forEach((base, task) => assert.ok(base <= drawn[task]!.length && base > drawn[task]!.length - 64));
  });

  test('an example drawn twice, and one that is skipped, are written like any other', () => {
    const encoder = new StepEncoder(INIT);
    const decoder = new StepDecoder(INIT, true);
    const example = { task: 1, index: 17, epoch: 4 };
    const found = decoder.decode(encoder.encode({ ...NO_FIGURES, lanes: [[[example, example], [example]]] }, []));
    const draws = found.lanes.flat(2);
    assert.equal(new Set(draws.map(({ draw }) => draw)).size, 1);
    assert.deepEqual(
      draws.map(({ task, index, epoch }) => ({ task, index, epoch })),
      [example, example, example],
    );
  });

  test('a payload too short for its figures is LEDGER_CORRUPT', () => {
    const tasks = [{ task: 2, numExamples: 7, inputTokens: 70, targetTokens: 9, loss: 0.5 }];
    const payload = new StepEncoder(INIT).encode({ ...NO_FIGURES, tasks, lanes: [] }, []);
    for (const cut of [payload.subarray(0, 10), payload.subarray(0, 36)])
      assert.throws(() => new StepDecoder(INIT, true).decode(cut), { code: 'LEDGER_CORRUPT' });
  });
});
