import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decideCheckpoint, type ScheduleOptions, type ScheduleState } from './schedule.ts';

const base: ScheduleState = { step: 7, isEnd: false, savedStep: 0, savedAtMs: 1000 };
const off: ScheduleOptions = { atEnd: false };

describe('checkpoint schedule', () => {
  const rows: readonly (readonly [string, number, Partial<ScheduleState>, ScheduleOptions, boolean, RegExp])[] = [
    ['nothing is due', 9000, {}, off, false, /^no checkpoint is due$/],
    ['a multiple of everySteps', 1000, { step: 10 }, { ...off, everySteps: 5 }, true, /^step 10 is a multiple of 5$/],
    ['one step before it', 1000, { step: 4 }, { ...off, everySteps: 5 }, false, /no checkpoint/],
    [
      'a multiple that passed unsaved',
      1000,
      { step: 7 },
      { ...off, everySteps: 5 },
      true,
      /^step 5, a multiple of 5, has/,
    ],
    ['a multiple that was saved', 1000, { step: 7, savedStep: 5 }, { ...off, everySteps: 5 }, false, /no checkpoint/],
    [
      'time has passed',
      61_000,
      {},
      { ...off, everyMs: 60_000 },
      true,
      /^60 s since the last one, at least every 60 s$/,
    ],
    ['time has not passed', 60_999, {}, { ...off, everyMs: 60_000 }, false, /no checkpoint/],
    ['the end', 1000, { isEnd: true }, { atEnd: true }, true, /^step 7 is the end of the run$/],
    ['the end, not wanted', 1000, { isEnd: true }, off, false, /no checkpoint/],
    ['the end, saved', 1000, { isEnd: true, savedStep: 7 }, { atEnd: true }, false, /^step 7 is saved already$/],
    ['a request', 1000, { requestedBy: 'its validation' }, off, true, /^its validation asked for it$/],
    ['a request at a saved step', 1000, { requestedBy: 'its validation', savedStep: 7 }, off, false, /saved already/],
    ['a request while writing', 1000, { requestedBy: 'its validation', writingStep: 6 }, off, false, /step 6 is still/],
    [
      'this step is being written',
      1000,
      { isEnd: true, writingStep: 7 },
      { atEnd: true },
      false,
      /^step 7 is being written/,
    ],
  ];
  for (const [name, nowMs, state, options, save, reason] of rows)
    test(`${name}: ${save ? 'saves' : 'does not save'}`, () => {
      const decision = decideCheckpoint(nowMs, { ...base, ...state }, options);
      assert.equal(decision.save, save);
      assert.match(decision.reason, reason);
    });

  test('however long writing takes, a due save comes at the first boundary after it, and no step is saved twice', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.integer({ min: 1, max: 25 }), { minLength: 40, maxLength: 40 }),
        (everySteps, writeSteps) => {
          let savedStep = 0;
          let writing: { step: number; doneAt: number } | undefined;
          const saved: number[] = [];
          for (let step = 1; step <= 120; step++) {
            if (writing !== undefined && writing.doneAt <= step) {
              savedStep = writing.step;
              writing = undefined;
            }
            const writingStep = writing?.step;
            const state = {
              step,
              isEnd: false,
              savedStep,
              savedAtMs: 0,
              ...(writingStep === undefined ? {} : { writingStep }),
            };
            const isDue = Math.floor(step / everySteps) * everySteps > savedStep;
            const { save } = decideCheckpoint(0, state, { ...off, everySteps });
            assert.equal(save, isDue && writing === undefined);
            if (!save) continue;
            writing = { step, doneAt: step + writeSteps[saved.length % writeSteps.length]! };
            saved.push(step);
          }
          assert.equal(new Set(saved).size, saved.length);
          assert.ok(saved.length > 0);
        },
      ),
      { numRuns: 100 },
    );
  });
});
