import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { listDenoisers, type Denoiser } from '../../shared/denoisers.ts';
import { RandomStream } from '../../shared/random.ts';
import { cutForDenoiser, denoise, denoisedLengths } from './denoisers.ts';
import { computeSegmentLength, corruptSpans } from './span-corruption.ts';

const FIRST_SENTINEL = 32_099;
const LIMITS = { inputs: 512, targets: 114, segmentLength: 568, numSentinels: 100 };
const text = (length: number): Int32Array => Int32Array.from({ length }, (_, at) => 100 + at);
const isSentinel = (id: number): boolean => id > FIRST_SENTINEL - 100;
const spans = (meanSpanLength: number, noiseDensity: number, prefixIds: readonly number[] = []): Denoiser => ({
  ...{ kind: 'span-corruption', name: 'x', rate: 1, noiseDensity, meanSpanLength },
  ...{ prefix: prefixIds.length === 0 ? '' : 'p', prefixIds: [...prefixIds] },
});
const prefixLm = (prefixIds: readonly number[] = []): Denoiser => ({
  ...{ kind: 'prefix-lm', name: 's', rate: 1 },
  ...{ prefix: prefixIds.length === 0 ? '' : 'p', prefixIds: [...prefixIds] },
});

function denoiseText(denoiser: Denoiser, length: number, example: number) {
  const random = new RandomStream([1, example]);
  const init = { name: 'text.x', example, random, firstSentinel: FIRST_SENTINEL, numSentinels: 100 };
  const { inputs, targets } = denoise(denoiser, text(length), init);
  return { inputs: [...inputs], targets: [...targets] };
}

/** The text that inputs and targets come from, by the definition of each denoiser. */
function restore(
  { kind }: Denoiser,
  numPrefix: number,
  inputs: readonly number[],
  targets: readonly number[],
): number[] {
  const body = inputs.slice(numPrefix, -1);
  if (kind === 'prefix-lm') return [...body, ...targets.slice(0, -1)];
  const noise = new Map<number, number[]>();
  for (const id of targets.slice(0, -1))
    if (isSentinel(id)) noise.set(id, []);
    else [...noise.values()].at(-1)!.push(id);
  return body.flatMap((id) => (isSentinel(id) ? noise.get(id)! : [id]));
}

const anyDenoiser = fc.oneof(
  fc
    .tuple(fc.constantFrom(3, 8, 64), fc.constantFrom(0.15, 0.3, 0.5), fc.constantFrom([], [5, 6]))
    .map(([span, density, prefix]) => spans(span, density, prefix)),
  fc.constantFrom([], [5, 6, 7]).map(prefixLm),
);

describe('denoisers', () => {
  test('an example has the stated lengths, fits the limits, begins with the prefix, and holds its whole text', () => {
    fc.assert(
      fc.property(
        anyDenoiser,
        fc.nat(1e6),
        fc.integer({ min: 24, max: 600 }),
        fc.integer({ min: 16, max: 200 }),
        (denoiser, example, inputsLimit, targetsLimit) => {
          const { numSentinels } = LIMITS;
          const segmentLength = Math.min(568, inputsLimit + targetsLimit);
          const limits = { inputs: inputsLimit, targets: targetsLimit, segmentLength, numSentinels };
          const { length, partsPerSegment, unusedTokens } = cutForDenoiser(denoiser, limits);
          assert.equal(partsPerSegment * length + unusedTokens, segmentLength);
          assert.ok(partsPerSegment >= 1 && unusedTokens < length);
          const { inputs, targets } = denoiseText(denoiser, length, example);
          const stated = denoisedLengths(denoiser, 'text.x', example, length);
          assert.deepEqual({ inputs: inputs.length, targets: targets.length }, stated);
          assert.ok(inputs.length <= inputsLimit && targets.length <= targetsLimit);
          const prefix = denoiser.prefixIds ?? [];
          assert.deepEqual(inputs.slice(0, prefix.length), prefix);
          assert.deepEqual([inputs.at(-1), targets.at(-1)], [1, 1]);
          assert.deepEqual(restore(denoiser, prefix.length, inputs, targets), [...text(length)]);
        },
      ),
      { numRuns: 400 },
    );
  });

  test('span corruption with the figures of T5 is that of a run without denoisers', () => {
    const segmentLength = computeSegmentLength({ inputsLimit: 512, targetsLimit: 114 });
    assert.deepEqual(cutForDenoiser(spans(3, 0.15), { ...LIMITS, segmentLength }), {
      length: segmentLength,
      partsPerSegment: 1,
      unusedTokens: 0,
    });
    const expected = corruptSpans(text(segmentLength), new RandomStream([1, 9]), { firstSentinel: FIRST_SENTINEL });
    const { inputs, targets } = denoiseText(spans(3, 0.15), segmentLength, 9);
    assert.deepEqual([inputs, targets], [[...expected.inputs], [...expected.targets]]);
  });

  test('a part is the longest that fits', () => {
    // Half of the text in spans of 8: 204 tokens give 102 noise tokens in 13 spans, 116 targets; 200 give 100 in 12, 113.
    const { length } = cutForDenoiser(spans(8, 0.5), LIMITS);
    const fits = (raw: number): boolean => denoisedLengths(spans(8, 0.5), 'x', 0, raw).targets <= 114;
    assert.ok(fits(length));
    for (let longer = length + 1; longer <= 568; longer++) assert.ok(!fits(longer), String(longer));
    assert.equal(cutForDenoiser(prefixLm(), LIMITS).length, 227);
  });

  test('prefix LM makes a quarter of the text targets on average, each split with the same chance', () => {
    const numExamples = 8_000;
    const [length, most] = [80, 40];
    const counts = new Array<number>(most + 1).fill(0);
    for (let example = 0; example < numExamples; example++)
      counts[denoisedLengths(prefixLm(), 'text.s', example, length).targets - 1]! += 1;
    assert.equal(counts[0], 0);
    const expected = numExamples / most;
    const chiSquare = counts.slice(1).reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    assert.ok(chiSquare < 72.05, `${chiSquare} with 39 degrees of freedom`); // p = 0.001
    const mean = counts.reduce((sum, count, tokens) => sum + count * tokens, 0) / numExamples;
    assert.ok(Math.abs(mean - length / 4) < 0.5, String(mean));
  });

  test('a denoiser that fits no text is refused with its name', () => {
    assert.throws(() => cutForDenoiser(spans(3, 0.15, [5, 6, 7]), { ...LIMITS, inputs: 4 }), {
      code: 'CONFIG_INVALID',
      message: /^denoiser x: no text fits inputs 4 \(3 of them for the prefix\)/u,
    });
  });

  test('ul2 is seven denoisers, a third each of R, S and X', () => {
    const denoisers = listDenoisers('ul2');
    assert.equal(denoisers.length, 7);
    const rateOf = (prefix: string): number =>
      denoisers.reduce((sum, denoiser) => (denoiser.prefix === prefix ? sum + denoiser.rate : sum), 0);
    for (const [prefix, rate] of [
      ['[NLU]', 0.33],
      ['[S2S]', 0.34],
      ['[NLG]', 0.33],
    ] as const)
      // prettier-ignore
      assert.ok(Math.abs(rateOf(prefix) - rate) < 1e-12, prefix);
  });
});
