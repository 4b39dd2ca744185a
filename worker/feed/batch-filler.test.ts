import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { TrainerError } from '../../shared/errors.ts';
import { BatchFiller, type DealtMicrobatch, type FilledMicrobatch } from './batch-filler.ts';

const dealt = (microbatch: number, numDrops = 0): DealtMicrobatch => ({
  step: 1,
  lane: 0,
  microbatch,
  numDrops,
  rows: [],
});
const settle = () => new Promise(setImmediate);

interface Filling {
  readonly slot: number;
  readonly signal: AbortSignal;
  readonly end: (outcome: number | Error) => void;
}

/** A filler whose fills end when the test says so. */
function fillerOf(numSlots: number) {
  const filled: FilledMicrobatch[] = [];
  const failures: TrainerError[] = [];
  const fillings: Filling[] = [];
  const filler = new BatchFiller({
    numSlots,
    onFilled: (batch) => filled.push(batch),
    onFailed: (error) => failures.push(error),
  });
  const begin = () =>
    filler.begin(
      (slot, _rows, signal) =>
        new Promise((resolve, reject) => {
          const end = (outcome: number | Error) => (typeof outcome === 'number' ? resolve(outcome) : reject(outcome));
          fillings.push({ slot, signal, end });
        }),
    );
  return { filler, filled, failures, fillings, begin };
}

describe('filling of slots', () => {
  test('hands over in the order dealt, whichever read ends first, and fills no slot twice at a time', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.infiniteStream(fc.nat(99)), async (numSlots, choices) => {
        const { filler, filled, fillings, begin } = fillerOf(numSlots);
        begin();
        filler.deal(Array.from({ length: 12 }, (_, i) => dealt(i)));
        const inUse = new Set<number>();
        for (let numFreed = 0; numFreed < 12;) {
          assert.ok(fillings.length + filled.length - numFreed <= numSlots);
          for (const { slot } of fillings) assert.ok(!inUse.has(slot));
          const choice = choices.next().value as number;
          fillings.splice(choice % Math.max(1, fillings.length), 1)[0]?.end(choice);
          await settle();
          for (; numFreed < filled.length; numFreed++) filler.free(filled[numFreed]!.slot);
        }
        assert.deepEqual(
          filled.map(({ microbatch }) => microbatch),
          [...Array(12).keys()],
        );
      }),
      { numRuns: 40 },
    );
  });

  test('begins with the deals from before the source was open', async () => {
    const { filler, filled, fillings, begin } = fillerOf(2);
    filler.deal([dealt(0)]);
    assert.equal(fillings.length, 0);
    begin();
    fillings[0]!.end(5);
    await settle();
    assert.deepEqual(filled, [{ step: 1, lane: 0, microbatch: 0, numDrops: 0, slot: 0, inputTokens: 5 }]);
  });

  test('a failure waits for its turn, and is the last word', async () => {
    const { filler, filled, failures, fillings, begin } = fillerOf(3);
    begin();
    filler.deal([dealt(0), dealt(1), dealt(2)]);
    fillings[1]!.end(new Error('fake'));
    fillings[2]!.end(3);
    await settle();
    assert.deepEqual([filled.length, failures.length], [0, 0]);
    fillings[0]!.end(1);
    await settle();
    assert.deepEqual(
      filled.map(({ microbatch }) => microbatch),
      [0],
    );
    assert.deepEqual(
      failures.map(({ message }) => message),
      ['feed of step 1 lane 0 microbatch 1: fake'],
    );
    filler.free(0);
    filler.deal([dealt(3)]);
    await settle();
    assert.deepEqual([filled.length, failures.length, fillings.length], [1, 1, 3]);
  });

  test('a drop aborts running fills and frees their slots at once, though the source still does not answer', async () => {
    const { filler, filled, failures, fillings, begin } = fillerOf(2);
    begin();
    filler.deal([dealt(0), dealt(1), dealt(2)]);
    filler.drop();
    assert.ok(fillings.every(({ signal }) => signal.aborted));
    filler.deal([dealt(7, 1), dealt(8, 1)]);
    assert.equal(fillings.length, 4);
    fillings[0]!.end(9); // what was dropped and ends late
    fillings[1]!.end(new Error('aborted'));
    fillings[3]!.end(8);
    fillings[2]!.end(7);
    await settle();
    assert.deepEqual(
      filled.map(({ microbatch, numDrops, inputTokens }) => [microbatch, numDrops, inputTokens]),
      [
        [7, 1, 7],
        [8, 1, 8],
      ],
    );
    assert.deepEqual(failures, []);
  });
});
