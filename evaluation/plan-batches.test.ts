import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planBatches } from './plan-batches.ts';

test('each example is in one batch that holds its tokens, and no batch of several is over the bound', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 700 })),
      fc.integer({ min: 1, max: 4_096 }),
      (lengths, batchTokens) => {
        const batches = planBatches(lengths, batchTokens);
        const placed = batches.flatMap(({ examples }) => examples).sort((a, b) => a - b);
        assert.deepEqual(placed, lengths.map((_, example) => example)); // prettier-ignore
        for (const { examples, inputsLength } of batches) {
          for (const example of examples) assert.equal(inputsLength, 16 * Math.ceil(lengths[example]! / 16));
          assert.ok(examples.length === 1 || examples.length * inputsLength <= batchTokens);
        }
      },
    ),
  );
});

test('the longest inputs come first, and inputs of one rounded length share a batch', () => {
  assert.deepEqual(planBatches([3, 40, 5, 33, 20], 96), [
    { examples: [1, 3], inputsLength: 48 },
    { examples: [4], inputsLength: 32 },
    { examples: [0, 2], inputsLength: 16 },
  ]);
});
