import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import { StepDealer } from './step-dealer.ts';
import { runCursorSchema, type RunCursor } from './rate-changes.ts';

const TASKS = ['a', 'b'].map((name, task) => ({
  name,
  numExamples: 40 + task,
  inputsLength: (index: number) => 3 + ((index + task) % 5),
  targetsLength: (index: number) => 2 + ((index + task) % 3),
}));
const PLAN = { seed: 3, inputsLimit: 16, targetsLimit: 8, windowDraws: 64, shares: [0.7, 0.3] };

function dealerOf(numLanes: number, at: { step: number; cursor?: RunCursor } = { step: 0 }): StepDealer {
  const schedule = { kind: 'constant' as const, value: 0.01 };
  return new StepDealer({ plan: PLAN, tasks: TASKS, schedule, rowsPerStep: 8, numLanes, rateChanges: [], ...at });
}

describe('step dealer', () => {
  test('rows, order and divisor of a step depend neither on lanes nor on where the run was killed and resumed', async () => {
    const whole = dealerOf(1);
    const steps = [];
    for (let i = 0; i < 20; i++) steps.push(await whole.deal());
    const expected = steps.map(({ lanes, targetTokens }) => ({ rows: lanes.flatMap(decodeRows), targetTokens }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(8), fc.constantFrom(1, 2, 4, 8)), { maxLength: 4 }),
        async (sessions) => {
          let at: { step: number; cursor?: RunCursor } = { step: 0 };
          const found = [];
          for (const [numSteps, numLanes] of [...sessions, [20, 2] as const]) {
            const dealer = dealerOf(numLanes, at);
            for (let i = 0; i < numSteps && found.length < 20; i++) {
              const { lanes, targetTokens, cursor, step } = await dealer.deal();
              assert.equal(lanes.length, numLanes);
              found.push({ rows: lanes.flatMap(decodeRows), targetTokens });
              at = { step, cursor: runCursorSchema.parse(JSON.parse(JSON.stringify(cursor))) };
            }
            // Killed here: this deal is lost with the dealer.
            await dealer.deal();
          }
          assert.deepEqual(found, expected);
        },
      ),
      { numRuns: 30 },
    );
  });

  test('the first step of a change has the first row of its window', async () => {
    const dealer = dealerOf(2);
    let numFirst = 0;
    for (let i = 0; i < 12; i++) {
      const { window, firstStep } = dealer.nextChange;
      const { cursor } = await dealer.deal();
      // After a step without rows of the window, the place is in an earlier window or at the beginning of this one.
      const hasRows = cursor.window > window || (cursor.window === window && cursor.row > 0);
      assert.equal(hasRows, firstStep === dealer.step, `step ${dealer.step}`);
      if (hasRows) numFirst += 1;
    }
    assert.ok(numFirst > 0 && numFirst < 12, `${numFirst} of 12 steps begin a window`);
  });
});
