import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { planStateSources } from './state-sources.ts';

const STEP = 7;
const isSame = (heldStep: number): boolean => heldStep === STEP;
const held = { kind: 'held', step: STEP };
const seed = { kind: 'start', checkpoint: null };
const start = { kind: 'start', checkpoint: '/c/step-7' };
const from = (...ranks: number[]) => ({ kind: 'peers', ranks });

/** what the ranks hold, the checkpoint, where each gets the state from, who copies from each, whether it is proved */
const CASES: readonly [string, (number | null)[], string | null, object[], number[][], boolean][] = [
  ['nobody holds it and the run is new', [null, null], null, [seed, seed], [[], []], true],
  ['nobody holds it and a checkpoint does', [null, null], '/c/step-7', [start, start], [[], []], true],
  ['all hold a state of another step', [6, 8], '/c/step-7', [start, start], [[], []], true],
  ['all hold it', [7, 7, 7], '/c/step-7', [held, held, held], [[], [], []], false],
  ['one of them is new', [7, null], '/c/step-7', [held, from(0)], [[1], []], true],
  ['one of them is behind', [7, 6, 7], null, [held, from(0, 2), held], [[1], [], [1]], true],
  ['one of them is further than what is committed', [8, 7], null, [from(1), held], [[], [0]], true],
  ['one of them holds it and two copy', [null, 7, 6], null, [from(1), held, from(1)], [[], [0, 2], []], true],
  ['it is alone and holds it', [7], null, [held], [[]], false],
];

describe('where the state comes from', () => {
  for (const [name, ranks, checkpoint, sources, receivers, proveState] of CASES)
    test(`when ${name}`, () => {
      assert.deepEqual(planStateSources(ranks, isSame, checkpoint), { sources, receivers, proveState });
    });

  test('a state with fewer updates is kept if the steps since then were skipped', () => {
    const plan = planStateSources([6, 7, 5], (step) => step >= 6, null);
    assert.deepEqual(plan.sources, [{ kind: 'held', step: 6 }, { kind: 'held', step: 7 }, from(0, 1)]);
  });

  test('of many holders each copy asks eight, and all holders send equally often', () => {
    const numHolders = 40;
    const { sources, receivers } = planStateSources(
      [...new Array<number>(numHolders).fill(STEP), ...new Array<null>(20).fill(null)],
      isSame,
      null,
    );
    for (const source of sources.slice(numHolders))
      assert.equal(source.kind === 'peers' && new Set(source.ranks).size, 8);
    for (const given of receivers.slice(0, numHolders)) assert.equal(given.length, (20 * 8) / numHolders);
  });

  test('a copy comes from holders that know of it; all members prove unless all hold the state', () => {
    const ranks = fc.array(fc.option(fc.integer({ min: 5, max: 8 })), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(ranks, (heldSteps) => {
        const { sources, receivers, proveState } = planStateSources(heldSteps, isSame, null);
        const hasHolder = heldSteps.includes(STEP);
        for (const [rank, source] of sources.entries()) {
          const expected = heldSteps[rank] === STEP ? 'held' : hasHolder ? 'peers' : 'start';
          assert.equal(source.kind, expected);
          const giving = receivers.flatMap((given, giver) => (given.includes(rank) ? [giver] : []));
          assert.deepEqual(source.kind === 'peers' ? source.ranks : [], giving);
        }
        assert.equal(proveState, !heldSteps.every((step) => step === STEP));
      }),
    );
  });
});
