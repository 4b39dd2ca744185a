import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { assignLanes } from './assign-lanes.ts';
import { coverRun, type LaneRun } from './lane-tree.ts';

const worlds = fc
  .record({ levels: fc.integer({ min: 0, max: 5 }), share: fc.double({ min: 0, max: 1, noNaN: true }) })
  .map(({ levels, share }) => ({ numLanes: 2 ** levels, worldSize: 1 + Math.round(share * (2 ** levels - 1)) }));

const lengthsOf = (runs: readonly LaneRun[]): number[] => runs.map(({ first, end }) => end - first);
const numNodes = (runs: readonly LaneRun[]): number => runs.reduce((sum, run) => sum + coverRun(run).length, 0);
const longest = (lengths: readonly number[], speeds: readonly number[]): number =>
  Math.max(...lengths.map((lanes, rank) => lanes / speeds[rank]!));

/** Every way to give each of the ranks at least one lane. */
function* splits(numLanes: number, worldSize: number): Generator<number[]> {
  if (worldSize === 1) yield [numLanes];
  else
    for (let lanes = 1; lanes <= numLanes - worldSize + 1; lanes++)
      for (const rest of splits(numLanes - lanes, worldSize - 1)) yield [lanes, ...rest];
}

const toRuns = (lengths: readonly number[]): LaneRun[] => {
  let end = 0;
  return lengths.map((lanes) => ({ first: end, end: (end += lanes) }));
};

describe('assignLanes', () => {
  test('runs are contiguous, complete and differ by at most one lane', () => {
    fc.assert(
      fc.property(worlds, ({ numLanes, worldSize }) => {
        const { runs, reason } = assignLanes(numLanes, worldSize);
        assert.equal(runs.length, worldSize);
        assert.equal(runs[0]!.first, 0);
        assert.equal(runs.at(-1)!.end, numLanes);
        for (let i = 1; i < runs.length; i++) assert.equal(runs[i]!.first, runs[i - 1]!.end);
        const lengths = runs.map(({ first, end }) => end - first);
        assert.ok(Math.max(...lengths) - Math.min(...lengths) <= 1);
        assert.ok(Math.min(...lengths) >= 1);
        assert.match(reason, new RegExp(`^${numLanes} lanes over ${worldSize} workers: `));
      }),
    );
  });

  test('among the even splits it returns one with the fewest cover nodes, longer runs first', () => {
    const lengths = (numLanes: number, worldSize: number): number[] =>
      assignLanes(numLanes, worldSize).runs.map(({ first, end }) => end - first);
    assert.deepEqual(lengths(16, 3), [6, 5, 5]);
    for (const [numLanes, worldSize] of [
      [8, 3],
      [8, 5],
      [16, 5],
      [16, 6],
      [16, 7],
      [16, 9],
    ] as const) {
      const cost = (runs: readonly LaneRun[]): number => runs.reduce((sum, run) => sum + coverRun(run).length, 0);
      const shorter = Math.floor(numLanes / worldSize);
      let fewest = Number.POSITIVE_INFINITY;
      for (let mask = 0; mask < 2 ** worldSize; mask++) {
        let first = 0;
        const runs = Array.from({ length: worldSize }, (_, rank) => {
          const run = { first, end: first + shorter + ((mask >> rank) & 1) };
          first = run.end;
          return run;
        });
        if (first === numLanes) fewest = Math.min(fewest, cost(runs));
      }
      assert.equal(cost(assignLanes(numLanes, worldSize).runs), fewest);
    }
  });

  test('rejects lane counts that are no power of two and worlds that do not fit', () => {
    for (const [numLanes, worldSize] of [
      [0, 1],
      [3, 1],
      [12, 4],
      [1.5, 1],
      [4, 0],
      [4, 5],
      [4, 2.5],
    ] as const)
      assert.throws(() => assignLanes(numLanes, worldSize), { code: 'CONFIG_INVALID' });
  });
});

describe('assignLanes with speeds', () => {
  const speedsOf = (worldSize: number) =>
    fc.array(fc.double({ min: 0.05, max: 20, noNaN: true }), { minLength: worldSize, maxLength: worldSize });

  for (const [numLanes, speeds, lengths] of [
    [1, [3], [1]],
    [8, [5, 5], [4, 4]],
    [8, [1, 1, 1], [3, 3, 2]],
    [64, [2, 1], [43, 21]],
    [64, [10, 10, 5], [26, 26, 12]],
    [16, [1, 1, 1, 0.001], [8, 4, 3, 1]],
    [4, [9, 1, 1, 1], [1, 1, 1, 1]],
    [8, [1e300, 1e-300], [7, 1]],
    [8, [1e-300, 1e300, 1e300], [1, 3, 4]],
    [1024, [100, 100, 100, 100, 50, 100, 100, 100], [137, 137, 137, 137, 68, 136, 136, 136]],
  ] as const)
    test(`${numLanes} lanes at speeds ${speeds.join(', ')} are cut into ${lengths.join(', ')}`, () => {
      assert.deepEqual(lengthsOf(assignLanes(numLanes, speeds.length, speeds).runs), lengths);
    });

  test('no split takes less time, and none with the same time has fewer cover nodes', () => {
    const cases = fc
      .record({ levels: fc.integer({ min: 0, max: 4 }), world: fc.nat() })
      .map(({ levels, world }) => ({ numLanes: 2 ** levels, worldSize: 1 + (world % Math.min(2 ** levels, 5)) }))
      .chain(({ numLanes, worldSize }) =>
        fc
          // Whole numbers, few or many: times are equal or clearly apart.
          .oneof(fc.constant(4), fc.constant(1000))
          .chain((max) => fc.array(fc.integer({ min: 1, max }), { minLength: worldSize, maxLength: worldSize }))
          .map((speeds) => ({ numLanes, worldSize, speeds })),
      );
    fc.assert(
      fc.property(cases, ({ numLanes, worldSize, speeds }) => {
        const { runs } = assignLanes(numLanes, worldSize, speeds);
        assert.deepEqual(runs, toRuns(lengthsOf(runs)));
        const found = longest(lengthsOf(runs), speeds);
        let [least, fewest] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
        // The same time may be rounded in two ways.
        const isSame = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-12 * a;
        for (const lengths of splits(numLanes, worldSize)) {
          const seconds = longest(lengths, speeds);
          if (seconds < least && !isSame(seconds, least)) [least, fewest] = [seconds, Number.POSITIVE_INFINITY];
          if (isSame(seconds, least)) fewest = Math.min(fewest, numNodes(toRuns(lengths)));
        }
        assert.ok(isSame(found, least), `${found} s, ${least} s is possible`);
        assert.equal(numNodes(runs), fewest);
      }),
    );
  });

  test('any world: all lanes once and in order, at least one a rank, never slower than the even split', () => {
    const cases = fc
      .record({ levels: fc.integer({ min: 0, max: 10 }), world: fc.nat() })
      .map(({ levels, world }) => ({ numLanes: 2 ** levels, worldSize: 1 + (world % Math.min(2 ** levels, 64)) }))
      .chain(({ numLanes, worldSize }) => speedsOf(worldSize).map((speeds) => ({ numLanes, worldSize, speeds })));
    fc.assert(
      fc.property(cases, ({ numLanes, worldSize, speeds }) => {
        const { runs } = assignLanes(numLanes, worldSize, speeds);
        const lengths = lengthsOf(runs);
        assert.equal(runs.length, worldSize);
        assert.deepEqual(runs, toRuns(lengths));
        assert.equal(runs.at(-1)!.end, numLanes);
        assert.ok(Math.min(...lengths) >= 1);
        const even = longest(lengthsOf(assignLanes(numLanes, worldSize).runs), speeds);
        assert.ok(longest(lengths, speeds) <= even * (1 + 1e-12));
      }),
      { numRuns: 50 },
    );
  });

  test('the reason has lanes and gain; of many ranks the fewest and the most lanes', () => {
    assert.equal(
      assignLanes(64, 3, [10, 10, 5]).reason,
      '64 lanes over 3 workers by measured speed: 26, 26, 12 lanes, 2600 ms for the slowest instead of 4200 ms with an even split (38 % less); 9 tree nodes to exchange',
    );
    assert.match(
      assignLanes(8, 2, [2, 2]).reason,
      /4, 4 lanes, 2000 ms for the slowest, as with an even split; 2 tree/u,
    );
    const speeds = Array.from({ length: 32 }, (_, rank) => (rank === 0 ? 1 : 2));
    assert.match(
      assignLanes(1024, 32, speeds).reason,
      /^1024 lanes over 32 workers by measured speed: 1\d to 3\d lanes, /u,
    );
  });

  test('the largest worlds are searched within the bound', () => {
    for (const [numLanes, worldSize] of [
      [65536, 2],
      [65536, 64],
      [1024, 1000],
    ] as const) {
      // One rank is so slow that the others may share out the rest in very many ways.
      const speeds = Array.from({ length: worldSize }, (_, rank) => (rank === 1 ? 1e-6 : 1 + (rank % 7) / 10));
      const lengths = lengthsOf(assignLanes(numLanes, worldSize, speeds).runs);
      assert.equal(lengths[1], 1);
      assert.ok(Math.min(...lengths) >= 1);
      assert.equal(
        lengths.reduce((a, b) => a + b),
        numLanes,
      );
    }
  });

  test('rejects speeds that are not one positive number a rank', () => {
    for (const speeds of [[1], [1, 2, 3], [1, 0], [1, -1], [1, Number.NaN], [1, Number.POSITIVE_INFINITY]])
      assert.throws(() => assignLanes(8, 2, speeds), { code: 'INTERNAL' });
  });
});
