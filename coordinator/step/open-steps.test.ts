import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isProven, OpenSteps } from './open-steps.ts';
import type { StepReport } from '../../shared/protocol/messages.ts';

const TASKS = ['a', 'b'];
const MS = { feed: 1, compute: 2, communicate: 3, update: 4, total: 10 };
const DEALT = { step: 5, learningRate: 0.01, targetTokens: 8 };

/** A report of lanes [first, end), each with two target tokens of task (lane mod 2) and the given loss sum. */
function report(first: number, end: number, loss = (lane: number) => lane + 0.5, gradDigest = 7): StepReport {
  const lanes = Array.from({ length: end - first }, (_, i) => first + i).map((lane) => ({
    lane,
    tasks: [{ task: lane % 2, loss: loss(lane), targetTokens: 2 }],
    zLoss: 0.25,
    inputTokens: 10,
  }));
  return {
    kind: 'report',
    epoch: 1,
    generation: 1,
    step: 5,
    gradDigest,
    gradSumOfSquares: 64,
    lanes,
    ms: { ...MS, compute: first },
  };
}

function openSteps(worldSize: number, numLanes = 4): OpenSteps {
  const made = new OpenSteps({ taskNames: TASKS, numLanes, worldSize });
  made.open(DEALT);
  return made;
}

describe('open steps', () => {
  test('a step is complete when every rank has reported, with means over target tokens', () => {
    const steps = openSteps(2);
    assert.equal(steps.receive(1, report(2, 4)), undefined);
    assert.deepEqual(steps.missingRanks(5), [0]);
    const summary = steps.receive(0, report(0, 2));
    assert.ok(summary !== undefined);
    assert.equal(summary.loss, (0.5 + 1.5 + 2.5 + 3.5) / 8);
    assert.deepEqual(summary.taskLoss, { a: (0.5 + 2.5) / 4, b: (1.5 + 3.5) / 4 });
    assert.deepEqual(summary.taskTokens, { a: 4, b: 4 });
    assert.equal(summary.zLoss, 1 / 8);
    assert.equal(summary.gradNorm, 1);
    assert.equal(summary.gradDigest, 7);
    assert.equal(summary.inputTokens, 40);
    assert.equal(summary.slowestRank, 1);
    assert.equal(steps.numOpen, 0);
  });

  test('losses have the same bits for every division of the lanes among ranks', () => {
    const losses = fc.array(fc.double({ min: 1e-9, max: 1e9, noNaN: true }), { minLength: 8, maxLength: 8 });
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 7 }), { maxLength: 5 });
    fc.assert(
      fc.property(losses, cuts, (values, unsorted) => {
        const loss = (lane: number) => values[lane]!;
        const dealt = { ...DEALT, targetTokens: 16 };
        const whole = new OpenSteps({ taskNames: TASKS, numLanes: 8, worldSize: 1 });
        whole.open(dealt);
        const expected = whole.receive(0, report(0, 8, loss));
        const bounds = [0, ...unsorted.sort((a, b) => a - b), 8];
        const steps = new OpenSteps({ taskNames: TASKS, numLanes: 8, worldSize: bounds.length - 1 });
        steps.open(dealt);
        const summaries = bounds.slice(1).map((end, rank) => steps.receive(rank, report(bounds[rank]!, end, loss)));
        const found = summaries.at(-1);
        assert.deepEqual(
          [found?.loss, found?.taskLoss, found?.zLoss],
          [expected?.loss, expected?.taskLoss, expected?.zLoss],
        );
      }),
      { numRuns: 60 },
    );
  });

  test('of three ranks the one that differs is named, and the gradient is that of the others', () => {
    const steps = openSteps(3);
    steps.receive(0, report(0, 1, undefined, 8));
    steps.receive(1, report(1, 2));
    const reported = steps.receive(2, report(2, 4));
    assert.ok(reported?.verdict.kind === 'outliers');
    assert.deepEqual([reported.verdict.ranks, reported.gradDigest, steps.numOpen], [[0], 7, 0]);
  });

  test('where two ranks differ no gradient has a majority, and the step stays open', () => {
    const steps = openSteps(2);
    steps.receive(0, report(0, 2));
    const reported = steps.receive(1, report(2, 4, undefined, 8));
    assert.ok(reported?.verdict.kind === 'no-majority');
    assert.match(reported.verdict.reason, /00000007 on rank 0.*00000008 on rank 1/u);
    assert.equal(steps.numOpen, 1);
  });

  test('where parameters are to be proven, a report without their digest is refused, and the others are compared by it', () => {
    const steps = new OpenSteps({
      taskNames: ['a', 'b'],
      numLanes: 4,
      worldSize: 2,
      provesState: (step) => step === 5,
    });
    steps.open(DEALT);
    assert.throws(() => steps.receive(0, report(0, 2)), { code: 'MESSAGE_INVALID', message: /without the digest/u });
    steps.receive(0, { ...report(0, 2), paramDigest: 'aa' });
    const reported = steps.receive(1, { ...report(2, 4), paramDigest: 'bb' });
    assert.equal(reported?.verdict.kind, 'no-majority');
  });

  for (const [rule, act] of [
    ['a step that was not dealt', (steps: OpenSteps) => steps.receive(0, { ...report(0, 2), step: 6 })],
    [
      'a second report of a rank',
      (steps: OpenSteps) => (steps.receive(0, report(0, 2)), steps.receive(0, report(0, 2))),
    ],
    [
      'a step before an earlier one',
      (steps: OpenSteps) => (steps.open({ ...DEALT, step: 6 }), steps.receive(0, { ...report(0, 2), step: 6 })),
    ],
    ['a lane reported twice', (steps: OpenSteps) => (steps.receive(0, report(0, 3)), steps.receive(1, report(2, 4)))],
    ['a lane nobody reported', (steps: OpenSteps) => (steps.receive(0, report(0, 1)), steps.receive(1, report(2, 4)))],
    [
      'a lane that does not exist',
      (steps: OpenSteps) => (steps.receive(0, report(0, 2)), steps.receive(1, report(2, 5))),
    ],
  ] as const) {
    test(`rejects ${rule}`, () => {
      assert.throws(() => act(openSteps(2)), { code: 'MESSAGE_INVALID' });
    });
  }

  test('rejects target tokens that are not those dealt: the workers read another mixture', () => {
    const steps = new OpenSteps({ taskNames: TASKS, numLanes: 4, worldSize: 1 });
    steps.open({ ...DEALT, targetTokens: 9 });
    assert.throws(() => steps.receive(0, report(0, 4)), {
      code: 'MESSAGE_INVALID',
      message: /9 target tokens were dealt, 8/u,
    });
  });

  test('a step that only some ranks can report is closed with their lanes', () => {
    const steps = openSteps(2);
    steps.receive(1, report(2, 4));
    const summary = steps.closePartial(5);
    assert.equal(summary?.loss, (2.5 + 3.5) / 4);
    assert.equal(steps.numOpen, 0);
    assert.equal(openSteps(2).closePartial(5), undefined);
  });

  test('every n-th step is proven, and none where n is 0', () => {
    const proven = (proveEverySteps: number) => [1, 2, 3, 4].filter((step) => isProven(step, { proveEverySteps }));
    assert.deepEqual([proven(2), proven(1), proven(0)], [[2, 4], [1, 2, 3, 4], []]);
  });
});
