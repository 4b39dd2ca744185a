import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { hashName, RandomStream } from '../../shared/random.ts';
import {
  applySplits,
  computeSegmentLength,
  corruptedLengths,
  corruptSpans,
  countNoise,
  denoisingLengths,
  drawSplits,
} from './span-corruption.ts';

interface GoldenCase {
  length: number;
  noise_tokens: number;
  noise_spans: number;
  nonnoise_span_lengths: number[];
  noise_span_lengths: number[];
  tokens: number[];
  inputs: number[];
  targets: number[];
  inputs_with_eos: number[];
  targets_with_eos: number[];
}
const golden = JSON.parse(
  readFileSync(new URL('../../golden/span-corruption/span-corruption.json', import.meta.url), 'utf8'),
) as {
  first_sentinel_id: number;
  length_table: {
    inputs_length: number;
    tokens_length: number;
    targets_length: number;
    noise_tokens: number;
    noise_spans: number;
  }[];
  counts_by_length: { rows: [length: number, noise: number, spans: number][] };
  cases: GoldenCase[];
};
const firstSentinel = golden.first_sentinel_id;
const streamOf = (example: number, epoch = 0) => new RandomStream([7, hashName('span-corruption'), 3, epoch, example]);
/** Ids that are neither EOS nor sentinels, all distinct. */
const text = (length: number) => Int32Array.from({ length }, (_, i) => 100 + i);
const isSentinel = (id: number) => id > firstSentinel - 100;

/** Replaces each sentinel by its noise: the inverse of corruption, written from its definition. */
function restore(inputs: Int32Array, targets: Int32Array): number[] {
  const noise = new Map<number, number[]>();
  let current: number[] = [];
  for (const id of targets.subarray(0, -1)) {
    if (isSentinel(id)) noise.set(id, (current = []));
    else current.push(id);
  }
  return Array.from(inputs.subarray(0, -1)).flatMap((id) => (isSentinel(id) ? noise.get(id)! : [id]));
}

describe('span corruption against the reference', () => {
  test('the length rule gives the table of random_spans_helper', () => {
    assert.ok(golden.length_table.length >= 18);
    for (const row of golden.length_table)
      assert.deepEqual(denoisingLengths(row.inputs_length), {
        rawLength: row.tokens_length,
        targetsLength: row.targets_length,
        noise: row.noise_tokens,
        spans: row.noise_spans,
      });
    assert.deepEqual(denoisingLengths(512), { rawLength: 568, targetsLength: 114, noise: 85, spans: 28 });
  });

  test('the mask has the reference counts for each length from 1 to 1200, also where float32 matters', () => {
    assert.equal(golden.counts_by_length.rows.length, 1200);
    for (const [length, noise, spans] of golden.counts_by_length.rows)
      assert.deepEqual(countNoise(length), { noise, spans }, `length ${length}`);
    // At these lengths float64 gives an exact half, which rounds to the even number below. In float32 the product is a
    // little above it.
    for (const length of [190, 350, 390, 670, 710, 750, 790, 830]) {
      assert.equal((0.15 * length) % 2, 0.5);
      assert.equal(countNoise(length).noise, Math.ceil(0.15 * length));
    }
  });

  test('there are 22 cases', () => {
    assert.equal(golden.cases.length, 22);
  });

  for (const [i, expected] of golden.cases.entries())
    test(`case ${i} of ${expected.length} tokens has the reference inputs and targets`, () => {
      const splits = { nonNoise: expected.nonnoise_span_lengths, noise: expected.noise_span_lengths };
      const { inputs, targets } = applySplits(expected.tokens, splits, firstSentinel);
      assert.deepEqual(Array.from(inputs), expected.inputs_with_eos);
      assert.deepEqual(Array.from(targets), expected.targets_with_eos);
      assert.deepEqual(expected.inputs_with_eos, [...expected.inputs, 1]);
      assert.deepEqual(corruptedLengths(expected.length), {
        inputsLength: inputs.length,
        targetsLength: targets.length,
      });
      const random = drawSplits(expected.length, streamOf(i));
      const sum = (runs: ArrayLike<number>) => Array.from(runs).reduce((a, b) => a + b, 0);
      assert.equal(random.noise.length, expected.noise_spans);
      assert.equal(random.nonNoise.length, expected.noise_spans);
      assert.equal(sum(random.noise), sum(expected.noise_span_lengths));
      assert.equal(sum(random.nonNoise), sum(expected.nonnoise_span_lengths));
    });
});

describe('span corruption', () => {
  test('each segment has the promised lengths, loses no token, and alternates text and noise with descending sentinels', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1137 }), fc.nat(), (length, example) => {
        const tokens = text(length);
        const { inputs, targets } = corruptSpans(tokens, streamOf(example), { firstSentinel });
        assert.deepEqual(
          { inputsLength: inputs.length, targetsLength: targets.length },
          corruptedLengths(length),
          `length ${length}`,
        );
        assert.deepEqual(restore(inputs, targets), Array.from(tokens));
        assert.equal(inputs.at(-1), 1);
        assert.equal(targets.at(-1), 1);
        assert.equal(inputs[0], tokens[0], 'the segment starts with text');
        const sentinels = Array.from(targets).filter(isSentinel);
        assert.deepEqual(
          sentinels,
          sentinels.map((_, i) => firstSentinel - i),
        );
        if (length > 1) assert.deepEqual(Array.from(inputs).filter(isSentinel), sentinels);
      }),
      { numRuns: 300 },
    );
  });

  test('equal keys give equal spans; another epoch or example gives others', () => {
    const corrupt = (example: number, epoch: number) =>
      Array.from(corruptSpans(text(568), streamOf(example, epoch), { firstSentinel }).inputs);
    assert.deepEqual(corrupt(1, 0), corrupt(1, 0));
    assert.notDeepEqual(corrupt(1, 0), corrupt(1, 1));
    assert.notDeepEqual(corrupt(1, 0), corrupt(2, 0));
  });

  test('all compositions are equally likely (chi-square)', () => {
    // 40 tokens: 6 of noise in 2 runs, 34 of text in 2 runs: 5 × 33 pairs of splits.
    const counts = new Map<string, number>();
    const numDraws = 16_500;
    for (let example = 0; example < numDraws; example++) {
      const { noise, nonNoise } = drawSplits(40, streamOf(example));
      const key = `${noise[0]!},${nonNoise[0]!}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    assert.equal(counts.size, 165);
    const expected = numDraws / 165;
    const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    assert.ok(Math.abs(chiSquare - 164) / Math.sqrt(328) < 4, `chi-square ${chiSquare} with 164 degrees of freedom`);
  });

  test('all 70 ways to split the text into 5 runs are equally likely', () => {
    // Density 0.36 and mean length 1 for 14 tokens: 5 runs of one noise token, 9 of text in 5 runs: C(8, 4) = 70 ways.
    const counts = new Map<string, number>();
    const rates = { noiseDensity: 0.36, meanSpanLength: 1 };
    for (let example = 0; example < 14_000; example++) {
      const key = Array.from(drawSplits(14, streamOf(example), rates).nonNoise).join();
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    assert.equal(counts.size, 70);
    const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - 200) ** 2 / 200, 0);
    assert.ok(Math.abs(chiSquare - 69) / Math.sqrt(138) < 4, `chi-square ${chiSquare} with 69 degrees of freedom`);
  });

  test('the lengths of the paper give segments of 568 tokens; shorter segments fit too', () => {
    assert.equal(computeSegmentLength({ inputsLimit: 512, targetsLimit: 114 }), 568);
    for (let length = 1; length <= 568; length++) {
      const { inputsLength, targetsLength } = corruptedLengths(length);
      assert.ok(inputsLength <= 512 && targetsLength <= 114);
    }
  });

  test('a full segment fits both limits for all inputs and targets lengths', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 1024 }), fc.integer({ min: 2, max: 256 }), (inputsLimit, targetsLimit) => {
        const length = computeSegmentLength({ inputsLimit, targetsLimit });
        const { inputsLength, targetsLength } = corruptedLengths(length);
        assert.ok(inputsLength <= inputsLimit && targetsLength <= targetsLimit);
        assert.ok(length <= denoisingLengths(inputsLimit).rawLength);
      }),
      { numRuns: 300 },
    );
    // T5's own rule says 8 tokens here, but its mask then makes 9.
    assert.equal(denoisingLengths(8).rawLength, 8);
    assert.equal(computeSegmentLength({ inputsLimit: 8, targetsLimit: 8 }), 7);
  });

  test('other densities and span lengths give the promised lengths', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: 0.01, max: 0.95, noNaN: true }),
        fc.double({ min: 1, max: 12, noNaN: true }),
        (length, noiseDensity, meanSpanLength) => {
          const rates = { noiseDensity, meanSpanLength };
          const options = { firstSentinel, numSentinels: 1000, rates };
          const { inputs, targets } = corruptSpans(text(length), streamOf(length), options);
          const found = { inputsLength: inputs.length, targetsLength: targets.length };
          assert.deepEqual(found, corruptedLengths(length, rates));
        },
      ),
      { numRuns: 200 },
    );
  });

  test('rejects a segment with more spans than sentinels, when lengths are computed and when it is corrupted', () => {
    const refusal = { code: 'CONFIG_INVALID', message: /114 spans but the vocabulary 100 sentinels/ };
    assert.throws(() => computeSegmentLength({ inputsLimit: 2048, targetsLimit: 2048 }), refusal);
    assert.throws(() => corruptSpans(text(2275), streamOf(0), { firstSentinel }), refusal);
    assert.throws(() => corruptSpans(text(2014), streamOf(0), { firstSentinel }), { message: /101 spans/ });
    assert.equal(corruptSpans(text(2000), streamOf(0), { firstSentinel }).inputs.includes(firstSentinel - 99), true);
  });

  test('rejects an empty segment, limits that are too small, and rates out of range', () => {
    assert.throws(() => corruptSpans([], streamOf(0), { firstSentinel }), { code: 'SHARD_CORRUPT' });
    assert.throws(() => denoisingLengths(1), { code: 'CONFIG_INVALID' });
    assert.throws(() => computeSegmentLength({ inputsLimit: 512, targetsLimit: 1 }), { code: 'CONFIG_INVALID' });
    for (const rates of [
      { noiseDensity: 0, meanSpanLength: 3 },
      { noiseDensity: 1, meanSpanLength: 3 },
      { noiseDensity: 0.15, meanSpanLength: 0.5 },
    ])
      assert.throws(() => denoisingLengths(512, rates), { code: 'CONFIG_INVALID', message: /noise density/ });
  });
});
