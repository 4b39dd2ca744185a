import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { computeWeights, drawTasks, WEIGHT_SUM } from './draws.ts';
import { computeRates, PAPER_RATES } from './rates.ts';

const zeros = (numTasks: number) => new Float64Array(numTasks);
const normalise = (raw: readonly number[]) => {
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((value) => value / sum);
};

/** Checks in exact integers that task counts are ⌊n·w/W⌋ or ⌈n·w/W⌉ after every draw. */
function assertWithinOne(weights: Float64Array, draws: Int32Array): void {
  const whole = BigInt(WEIGHT_SUM);
  const counts = new Array<bigint>(weights.length).fill(0n);
  draws.forEach((drawn, i) => {
    counts[drawn] = counts[drawn]! + 1n;
    counts.forEach((count, task) => {
      const exact = BigInt(i + 1) * BigInt(weights[task]!);
      const floor = exact / whole;
      const isAllowed = count === floor || (exact % whole !== 0n && count === floor + 1n);
      assert.ok(
        isAllowed,
        `after ${i + 1} draws task ${task} was drawn ${count} times, exact share ${floor} and a fraction`,
      );
    });
  });
}

/** Mixtures with shares as different as those of ExMix: equal, heavy-tailed, with zeros. */
const sharesArbitrary = fc
  .array(fc.oneof(fc.constant(1), fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 1_000_000 })), {
    minLength: 1,
    maxLength: 24,
  })
  .filter((raw) => raw.some((value) => value > 0))
  .map(normalise);

describe('draws', () => {
  test('after any number of draws each task is within one draw of its exact share', () => {
    fc.assert(
      fc.property(sharesArbitrary, fc.integer({ min: 1, max: 300 }), (shares, numDraws) => {
        const weights = computeWeights(shares);
        assertWithinOne(weights, drawTasks(weights, zeros(shares.length), numDraws));
      }),
      { numRuns: 150 },
    );
  });

  test('shares for which "the largest credit wins" is more than one draw behind stay within one', () => {
    const raw = [2, 1, 31, 19, 3, 1, 31, 1, 19, 1];
    const weights = computeWeights(normalise(raw));
    assertWithinOne(weights, drawTasks(weights, zeros(raw.length), 500));
    const credits = zeros(raw.length);
    let worst = 0;
    for (let draw = 0; draw < 109; draw++) {
      credits.forEach((credit, task) => (credits[task] = credit + weights[task]!));
      const chosen = credits.indexOf(Math.max(...credits));
      credits[chosen] = credits[chosen]! - WEIGHT_SUM;
      worst = Math.max(worst, ...credits.map(Math.abs));
    }
    assert.ok(worst > WEIGHT_SUM, 'these shares are a counterexample to the rule in the module header');
  });

  test('drawing in parts equals drawing at once; the credits are the whole state', () => {
    fc.assert(
      fc.property(sharesArbitrary, fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 6 }), (shares, parts) => {
        const weights = computeWeights(shares);
        const total = parts.reduce((a, b) => a + b, 0);
        const once = zeros(shares.length);
        const whole = drawTasks(weights, once, total);
        let credits = zeros(shares.length);
        const joined = parts.flatMap((part) => {
          credits = Float64Array.from(JSON.parse(JSON.stringify(Array.from(credits))) as number[]);
          return Array.from(drawTasks(weights, credits, part));
        });
        assert.deepEqual(joined, Array.from(whole));
        assert.deepEqual(Array.from(credits), Array.from(once));
      }),
      { numRuns: 60 },
    );
  });

  test('credits stay exact integers: draws × weight − count × W', () => {
    const weights = computeWeights(normalise([1, 3, 7, 1000, 0.001]));
    const credits = zeros(5);
    const numDraws = 100_000;
    const counts = [0, 0, 0, 0, 0];
    for (const task of drawTasks(weights, credits, numDraws)) counts[task] = counts[task]! + 1;
    credits.forEach((credit, task) => {
      const exact = BigInt(numDraws) * BigInt(weights[task]!) - BigInt(counts[task]!) * BigInt(WEIGHT_SUM);
      assert.equal(BigInt(credit), exact);
      assert.ok(Math.abs(credit) < WEIGHT_SUM);
    });
  });

  test('the draws of a task are spread evenly', () => {
    const draws = Array.from(drawTasks(computeWeights([0.5, 0.25, 0.25]), zeros(3), 8));
    assert.deepEqual(draws, [0, 1, 0, 2, 0, 1, 0, 2]);
  });
});

describe('weights', () => {
  test('are integers that add up to W, within one unit for each task of the shares, and positive if the share is', () => {
    fc.assert(
      fc.property(sharesArbitrary, (shares) => {
        const weights = computeWeights(shares);
        assert.equal(
          weights.reduce((a, b) => a + b, 0),
          WEIGHT_SUM,
        );
        weights.forEach((weight, task) => {
          assert.ok(Number.isSafeInteger(weight));
          assert.equal(weight > 0, shares[task]! > 0);
          assert.ok(Math.abs(weight - shares[task]! * WEIGHT_SUM) <= shares.length);
        });
      }),
      { numRuns: 200 },
    );
  });

  test('a tiny share still has a weight of at least 1', () => {
    assert.deepEqual(Array.from(computeWeights([1, 1e-30])), [WEIGHT_SUM - 1, 1]);
  });

  for (const [what, shares] of [
    ['no shares', []],
    ['shares that do not add up to 1', [0.5, 0.4]],
    ['a negative share', [1.5, -0.5]],
    ['a share that is not a number', [NaN, 1]],
  ] as const)
    test(`rejects ${what}`, () => {
      assert.throws(() => computeWeights(shares), { code: 'CONFIG_INVALID', message: /add up to 1/ });
    });
});

describe('the whole of ExMix', () => {
  test('after each of 100,000 draws each of 107 tasks and C4 is within one of n times its share', () => {
    const golden = JSON.parse(readFileSync(new URL('../../golden/mixing.json', import.meta.url), 'utf8')) as {
      tasks_without_size: string[];
      with_styleptb_total: { per_task: Record<string, { train_examples: number }> };
    };
    const sizes = [
      ...Object.entries(golden.with_styleptb_total.per_task).map(([name, { train_examples: n }]) => [name, n] as const),
      // Together 53,546.
      ...golden.tasks_without_size.map((name, i) => [name, i < 17 ? 2550 : 2549] as const),
    ].map(([name, numExamples]) => ({ name, numExamples, kind: 'supervised' as const }));
    const c4 = { name: 'c4', numExamples: 100_000_000, kind: 'denoising' as const };
    const shares = computeRates([...sizes, c4], PAPER_RATES).map(({ share }) => share);
    assert.equal(shares.length, 108);
    const weights = computeWeights(shares);
    const draws = drawTasks(weights, zeros(108), 100_000);
    const counts = new Float64Array(108);
    let worst = 0;
    draws.forEach((task, i) => {
      counts[task] = counts[task]! + 1;
      for (let other = 0; other < 108; other++)
        worst = Math.max(worst, Math.abs(counts[other]! - (i + 1) * shares[other]!));
    });
    assert.ok(worst < 1 + 1e-6 && worst > 0.9, `furthest from its share: ${worst} draws`);
    // Again in exact integers, at the end.
    counts.forEach((count, task) => {
      const exact = (BigInt(100_000) * BigInt(weights[task]!)) / BigInt(WEIGHT_SUM);
      assert.ok(BigInt(count) === exact || BigInt(count) === exact + 1n);
    });
  });
});
