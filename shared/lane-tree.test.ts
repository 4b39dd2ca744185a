import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { assignLanes } from './assign-lanes.ts';
import { coverRun, planFinish, planFold, planLaneTree, treeSum, type LaneRun, type TreeNode } from './lane-tree.ts';

/** Any split of 2^levels lanes into contiguous runs. */
const partitions = fc.integer({ min: 0, max: 5 }).chain((levels) =>
  fc.subarray(Array.from({ length: 2 ** levels - 1 }, (_, i) => i + 1)).map((cuts) => {
    const ends = [...cuts, 2 ** levels];
    return { numLanes: 2 ** levels, runs: ends.map((end, rank): LaneRun => ({ first: ends[rank - 1] ?? 0, end })) };
  }),
);

/** The expression of a node: what a symbolic addition in tree order gives. */
function expression(level: number, index: number): string {
  return level === 0 ? `${index}` : `(${expression(level - 1, 2 * index)}+${expression(level - 1, 2 * index + 1)})`;
}

const lanesOf = ({ level, index }: TreeNode): LaneRun => ({ first: index * 2 ** level, end: (index + 1) * 2 ** level });

describe('coverRun and planFold', () => {
  test('the cover is exact, disjoint, in order, and cannot be made smaller', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 40 }), (first, length) => {
        const cover = coverRun({ first, end: first + length });
        let lane = first;
        for (const node of cover) {
          assert.equal(lanesOf(node).first, lane);
          lane = lanesOf(node).end;
        }
        assert.equal(lane, first + length);
        // Smaller would need two siblings to be joined.
        for (let i = 1; i < cover.length; i++) {
          const [left, right] = [cover[i - 1]!, cover[i]!];
          assert.ok(left.level !== right.level || left.index % 2 === 1 || right.index !== left.index + 1);
        }
      }),
    );
  });

  test('folding lane by lane leaves exactly the cover in slots 0 … and forms only tree sums', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 40 }), (first, length) => {
        const run = { first, end: first + length };
        const fold = planFold(run);
        const slots: string[] = [];
        for (const { lane, slot, merges } of fold.steps) {
          slots[slot] = `${lane}`;
          for (let s = slot; s > slot - merges; s--) slots[s - 1] = `(${slots[s - 1]!}+${slots[s]!})`;
          assert.ok(slot < fold.numSlots);
        }
        assert.deepEqual(fold.cover, coverRun(run));
        assert.deepEqual(
          slots.slice(0, fold.cover.length),
          fold.cover.map(({ level, index }) => expression(level, index)),
        );
        assert.ok(fold.numSlots <= 2 * Math.log2(length) + 2, `${fold.numSlots} slots for ${length} lanes`);
      }),
    );
  });

  test('eight lanes of one worker need four slots', () => {
    assert.deepEqual(planFold({ first: 0, end: 8 }).numSlots, 4);
  });
});

describe('planFinish', () => {
  /** Folds each rank's lanes, then finishes, as a generation does. */
  function addUp<T extends string | number>(
    numLanes: number,
    runs: readonly LaneRun[],
    lanes: readonly T[],
    add: (a: T, b: T) => T,
  ): T {
    const { folds, leaves, finish } = planLaneTree(numLanes, runs);
    const covers = folds.map(({ steps }) => {
      const slots: T[] = [];
      for (const { lane, slot, merges } of steps) {
        slots[slot] = lanes[lane]!;
        for (let s = slot; s > slot - merges; s--) slots[s - 1] = add(slots[s - 1]!, slots[s]!);
      }
      return slots;
    });
    const values = leaves.map(({ rank, node }) => covers[rank]![node]!);
    let result = values[0]!;
    for (const { operands } of finish) {
      const [a, b, c, d] = operands.map((leaf) => values[leaf]!);
      result = c === undefined ? add(a!, b!) : add(add(a!, b!), add(c, d!));
      values[operands[0]] = result;
    }
    return result;
  }

  test('finishes exactly the canonical tree for any contiguous runs', () => {
    fc.assert(
      fc.property(partitions, ({ numLanes, runs }) => {
        const lanes = Array.from({ length: numLanes }, (_, lane) => `${lane}`);
        const sum = addUp(numLanes, runs, lanes, (a, b) => `(${a}+${b})`);
        assert.equal(sum, expression(Math.log2(numLanes), 0));
      }),
    );
  });

  test('numbers of many magnitudes have the same sum to the bit for any split, even or by speeds', () => {
    const magnitudes = fc.record({
      mantissa: fc.integer({ min: -1e6, max: 1e6 }),
      power: fc.integer({ min: -30, max: 30 }),
    });
    fc.assert(
      fc.property(
        partitions,
        fc.array(magnitudes, { minLength: 32, maxLength: 32 }),
        fc.array(fc.double({ min: 0.01, max: 100, noNaN: true }), { minLength: 32, maxLength: 32 }),
        ({ numLanes, runs }, all, speeds) => {
          const lanes = all.slice(0, numLanes).map(({ mantissa, power }) => mantissa * 2 ** power);
          const worldSize = runs.length;
          const splits = [
            runs,
            assignLanes(numLanes, worldSize).runs,
            assignLanes(numLanes, worldSize, speeds.slice(0, worldSize)).runs,
          ];
          for (const split of splits)
            assert.ok(
              Object.is(
                addUp(numLanes, split, lanes, (a, b) => a + b),
                treeSum(lanes),
              ),
              JSON.stringify(split),
            );
        },
      ),
    );
  });

  test('fuses four workers into one operation', () => {
    assert.deepEqual(planLaneTree(4, assignLanes(4, 4).runs).finish, [{ operands: [0, 1, 2, 3] }]);
  });

  for (const [what, numLanes, runs, message] of [
    ['no ranks', 4, [], /expected 4 in all, found 0/u],
    [
      'a lane that nobody has',
      4,
      [
        [0, 1],
        [2, 4],
      ],
      /lanes of rank 1: expected \[1, end\).*found \[2, 4\)/u,
    ],
    [
      'a lane that two have',
      4,
      [
        [0, 2],
        [1, 4],
      ],
      /lanes of rank 1/u,
    ],
    ['a first lane that is not 0', 4, [[1, 4]], /lanes of rank 0/u],
    [
      'a rank without lanes',
      4,
      [
        [0, 2],
        [2, 2],
        [2, 4],
      ],
      /lanes of rank 1.*each rank has one at least/u,
    ],
    ['lanes that are missing at the end', 4, [[0, 3]], /expected 4 in all, found 3/u],
    ['lanes that do not exist', 4, [[0, 5]], /an end from 1 to 4, found \[0, 5\)/u],
    [
      'half a lane',
      4,
      [
        [0, 1.5],
        [1.5, 4],
      ],
      /lanes of rank 0/u,
    ],
    ['a number of lanes that is no power of two', 6, [[0, 6]], /numLanes: expected a power of two/u],
  ] satisfies [string, number, [number, number][], RegExp][])
    test(`rejects ${what}`, () => {
      assert.throws(
        () =>
          planLaneTree(
            numLanes,
            runs.map(([first, end]) => ({ first, end })),
          ),
        { code: 'CONFIG_INVALID', message },
      );
    });

  test('rejects covers with a hole', () => {
    assert.throws(() => planFinish(4, [[{ level: 1, index: 0 }], [{ level: 0, index: 3 }]]), { code: 'INTERNAL' });
  });
});

describe('sums over lanes', () => {
  test('numbers are added in the canonical tree, not from left to right', () => {
    const [a, b, c, d] = [1e16, 1, -1e16, 1];
    assert.equal(treeSum([a, b, c, d]), a + b + (c + d));
    assert.notEqual(treeSum([a, b, c, d]), a + b + c + d);
    assert.equal(treeSum([5]), 5);
  });
});
