import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseDecodingSettings } from './decoding/settings.ts';
import { planEvaluation, type PlannedSet } from './plan-evaluation.ts';

const ids = (length: number): number[] => Array.from({ length }, () => 5);
const example = fc
  .record({ inputs: fc.integer({ min: 1, max: 900 }), targets: fc.integer({ min: 1, max: 300 }) })
  .map(({ inputs, targets }) => ({ inputIds: ids(inputs), targetIds: ids(targets) }));
const set: fc.Arbitrary<PlannedSet> = fc.record({
  kind: fc.constantFrom('supervised', 'denoising'),
  examples: fc.array(example, { maxLength: 60 }),
});
const greedy = parseDecodingSettings({ method: 'greedy', maxNewTokens: 64 });

describe('plan of an evaluation', () => {
  test('each example is scored once, and decoded once where its set generates', () => {
    fc.assert(
      fc.property(fc.array(set, { maxLength: 4 }), fc.integer({ min: 1, max: 8_192 }), (sets, batchTokens) => {
        const batches = planEvaluation(sets, { batchTokens, decoding: greedy });
        for (const [at, { kind, examples }] of sets.entries())
          for (const wanted of ['score', 'decode'] as const) {
            const found = batches.filter((batch) => batch.set === at && batch.kind === wanted);
            const isWanted = wanted === 'score' || kind === 'supervised';
            assert.deepEqual(
              found.flatMap((batch) => batch.examples).sort((a, b) => a - b),
              isWanted ? examples.map((_, index) => index) : [],
            );
          }
      }),
    );
  });

  test('every example fits its row, shapes are powers of two, and a batch of several examples keeps the bounds', () => {
    fc.assert(
      fc.property(set, fc.integer({ min: 1, max: 8_192 }), (one, batchTokens) => {
        for (const batch of planEvaluation([one], { batchTokens })) {
          assert.ok(batch.kind === 'score');
          const { examples, inputsLength, targetsLength, numRows } = batch;
          for (const size of [inputsLength, targetsLength, numRows]) assert.ok(Number.isInteger(Math.log2(size)));
          for (const index of examples) {
            assert.ok(one.examples[index]!.inputIds.length <= inputsLength);
            assert.ok(one.examples[index]!.targetIds.length <= targetsLength);
          }
          assert.ok(examples.length <= numRows && numRows < 2 * examples.length);
          if (numRows === 1) continue;
          assert.ok(numRows <= 256 && numRows * targetsLength <= 1_024);
          assert.ok(numRows * (inputsLength + targetsLength) <= batchTokens);
        }
      }),
    );
  });

  test('beams and long outputs make smaller batches', () => {
    const one: PlannedSet = {
      kind: 'supervised',
      examples: Array.from({ length: 100 }, () => ({ inputIds: ids(9), targetIds: ids(2) })),
    };
    const sizes = (settings: Parameters<typeof parseDecodingSettings>[0]): number[] =>
      planEvaluation([one], { batchTokens: 8_192, decoding: parseDecodingSettings(settings) })
        .filter(({ kind }) => kind === 'decode')
        .map(({ examples }) => examples.length);
    assert.deepEqual(sizes({ method: 'greedy', maxNewTokens: 128 }), [100]);
    assert.deepEqual(sizes({ method: 'beam', numBeams: 4, maxNewTokens: 128 }), [32, 32, 32, 4]);
    assert.equal(sizes({ method: 'greedy', maxNewTokens: 40_000 }).length, 100);
  });

  test('the plan of one set does not depend on the others, and scores alone need no decoding', () => {
    const one: PlannedSet = { kind: 'supervised', examples: [{ inputIds: ids(3), targetIds: ids(2) }] };
    const alone = planEvaluation([one], { batchTokens: 64, decoding: greedy });
    const after = planEvaluation([one, one], { batchTokens: 64, decoding: greedy }).slice(alone.length);
    assert.deepEqual(after, alone.map((batch) => ({ ...batch, set: 1 }))); // prettier-ignore
    assert.deepEqual(planEvaluation([one], { batchTokens: 64 }).map(({ kind }) => kind), ['score']); // prettier-ignore
  });
});
