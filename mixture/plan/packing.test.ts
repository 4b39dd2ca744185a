import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RandomStream } from '../../shared/random.ts';
import { computeFills, packRows, type PackedRows } from './packing.ts';

const LIMITS = { inputsLimit: 512, targetsLimit: 114 };
const rowsOf = ({ starts, members }: PackedRows) =>
  Array.from({ length: starts.length - 1 }, (_, row) => Array.from(members.subarray(starts[row], starts[row + 1])));
const pack = (lengths: readonly (readonly [number, number])[], limits = LIMITS) =>
  packRows(
    Int32Array.from(lengths, ([inputs]) => inputs),
    Int32Array.from(lengths, ([, targets]) => targets),
    limits,
  );

/** Log-normal lengths cut to the limit, like those of short questions, passages and summaries. */
function supervisedLengths(numExamples: number): [Int32Array, Int32Array] {
  const random = new RandomStream([21]);
  const families = [
    [40, 4],
    [24, 8],
    [240, 6],
    [480, 70],
    [45, 30],
    [90, 24],
  ] as const;
  const inputs = new Int32Array(numExamples);
  const targets = new Int32Array(numExamples);
  const draw = (median: number, limit: number) =>
    Math.max(2, Math.min(limit, Math.round(median * Math.exp(0.5 * random.nextNormal()))));
  for (let i = 0; i < numExamples; i++) {
    const [inputsMedian, targetsMedian] = families[random.nextBelow(families.length)]!;
    inputs[i] = draw(inputsMedian, LIMITS.inputsLimit);
    targets[i] = draw(targetsMedian, LIMITS.targetsLimit);
  }
  return [inputs, targets];
}

/** The same rule by brute force, over all open rows. */
function packSlowly(lengths: readonly (readonly [number, number])[], limits: typeof LIMITS): number[][] {
  const size = ([inputs, targets]: readonly [number, number]) =>
    inputs * limits.targetsLimit + targets * limits.inputsLimit;
  const order = lengths.map((_, i) => i).sort((a, b) => size(lengths[b]!) - size(lengths[a]!) || a - b);
  const rows: { inputs: number; targets: number; members: number[]; touched: number }[] = [];
  order.forEach((position, turn) => {
    const [inputs, targets] = lengths[position]!;
    const fitting = rows.filter((row) => row.inputs >= inputs && row.targets >= targets);
    // Among equally full rows, the most recently changed one comes first.
    fitting.sort((a, b) => a.inputs - b.inputs || a.targets - b.targets || b.touched - a.touched);
    const row = fitting[0] ?? { inputs: limits.inputsLimit, targets: limits.targetsLimit, members: [], touched: 0 };
    if (fitting.length === 0) rows.push(row);
    row.inputs -= inputs;
    row.targets -= targets;
    row.members.push(position);
    row.touched = turn;
  });
  return rows.map(({ members }) => members);
}

const lengthsArbitrary = (inputsLimit: number, targetsLimit: number) =>
  fc.array(fc.tuple(fc.integer({ min: 1, max: inputsLimit }), fc.integer({ min: 1, max: targetsLimit })), {
    maxLength: 200,
  });

describe('packing', () => {
  test('each example is in exactly one row, and no row exceeds a limit', () => {
    fc.assert(
      fc.property(
        fc
          .tuple(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 1000 }))
          .chain(([inputsLimit, targetsLimit]) =>
            fc.tuple(fc.constant({ inputsLimit, targetsLimit }), lengthsArbitrary(inputsLimit, targetsLimit)),
          ),
        ([limits, lengths]) => {
          const rows = rowsOf(pack(lengths, limits));
          assert.deepEqual(
            rows.flat().sort((a, b) => a - b),
            lengths.map((_, i) => i),
          );
          for (const row of rows) {
            assert.ok(row.length > 0);
            assert.ok(row.reduce((sum, i) => sum + lengths[i]![0], 0) <= limits.inputsLimit);
            assert.ok(row.reduce((sum, i) => sum + lengths[i]![1], 0) <= limits.targetsLimit);
          }
        },
      ),
      { numRuns: 120 },
    );
  });

  test('the rows equal those of the rule by brute force', () => {
    fc.assert(
      fc.property(lengthsArbitrary(64, 24), (lengths) => {
        const limits = { inputsLimit: 64, targetsLimit: 24 };
        assert.deepEqual(rowsOf(pack(lengths, limits)), packSlowly(lengths, limits));
      }),
      { numRuns: 150 },
    );
  });

  test('two examples share a row only if both sides have space', () => {
    assert.deepEqual(rowsOf(pack([[256, 57], [256, 57]])), [[0, 1]]); // prettier-ignore
    assert.deepEqual(rowsOf(pack([[256, 57], [257, 57]])), [[1], [0]]); // prettier-ignore
    assert.deepEqual(rowsOf(pack([[256, 57], [256, 58]])), [[1], [0]]); // prettier-ignore
  });

  test('a full denoising example is alone in its row; one that is not full gets a small example', () => {
    assert.deepEqual(rowsOf(pack([[512, 114], [3, 1]])), [[0], [1]]); // prettier-ignore
    assert.deepEqual(rowsOf(pack([[511, 113], [512, 1], [1, 1]])), [[0, 2], [1]]); // prettier-ignore
  });

  test('realistic supervised examples fill rows to at least 0.95, also in small windows', () => {
    for (const numExamples of [700, 2700, 11_000]) {
      const [inputs, targets] = supervisedLengths(numExamples);
      const fills = computeFills(packRows(inputs, targets, LIMITS), inputs, targets, LIMITS);
      const mean = fills.reduce((a, b) => a + b, 0) / fills.length;
      assert.ok(mean >= 0.95 && mean <= 1, `${numExamples} examples: mean fill ${mean}`);
      // Best fit is close to the smallest number of rows for these tokens.
      const least = Math.max(
        inputs.reduce((a, b) => a + b, 0) / LIMITS.inputsLimit,
        targets.reduce((a, b) => a + b, 0) / LIMITS.targetsLimit,
      );
      assert.ok(fills.length <= 1.06 * least, `${fills.length} rows where the tokens need ${least}`);
    }
  });

  test('rows that share a cell of the search grid never exceed a limit', () => {
    const limits = { inputsLimit: 5000, targetsLimit: 1000 };
    assert.deepEqual(rowsOf(pack([[4988, 1], [13, 1]], limits)), [[0], [1]]); // prettier-ignore
    assert.deepEqual(rowsOf(pack([[1, 990], [1, 11]], limits)), [[0], [1]]); // prettier-ignore
    assert.deepEqual(rowsOf(pack([[4985, 1], [15, 1]], limits)), [[0, 1]]); // prettier-ignore
  });

  test('the fill of a row is that of its fuller side', () => {
    const inputs = Int32Array.of(128, 64, 512);
    const targets = Int32Array.of(57, 19, 1);
    const fills = computeFills(packRows(inputs, targets, LIMITS), inputs, targets, LIMITS);
    assert.deepEqual(Array.from(fills), [1, 76 / 114]);
  });

  test('no examples make no rows', () => {
    assert.deepEqual(rowsOf(pack([])), []);
  });

  for (const [what, lengths, code, message] of [
    ['inputs over the limit', [513, 4], 'MIXTURE_MISMATCH', /example 1: expected at most 512 .* found inputs 513/],
    ['targets over the limit', [5, 115], 'MIXTURE_MISMATCH', /at most .* 114 targets tokens, found .* 115/],
    ['empty inputs', [0, 4], 'SHARD_CORRUPT', /at least 1 token/],
    ['empty targets', [5, 0], 'SHARD_CORRUPT', /at least 1 token/],
  ] as const)
    test(`rejects an example with ${what}`, () => {
      assert.throws(() => pack([[5, 5], lengths]), { code, message });
    });
});
