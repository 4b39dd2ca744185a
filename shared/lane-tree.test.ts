import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  assignLanes,
  coverRun,
  planFinish,
  planFold,
  planLaneTree,
  treeSum,
  type LaneRun,
  type TreeNode,
} from './lane-tree.ts';

const worlds = fc
  .record({ levels: fc.integer({ min: 0, max: 5 }), share: fc.double({ min: 0, max: 1, noNaN: true }) })
  .map(({ levels, share }) => ({ numLanes: 2 ** levels, worldSize: 1 + Math.round(share * (2 ** levels - 1)) }));

/** The expression of a node: what a symbolic addition in tree order gives. */
function expression(level: number, index: number): string {
  return level === 0 ? `${index}` : `(${expression(level - 1, 2 * index)}+${expression(level - 1, 2 * index + 1)})`;
}

const lanesOf = ({ level, index }: TreeNode): LaneRun => ({ first: index * 2 ** level, end: (index + 1) * 2 ** level });

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

  test('of the even splits it takes one with the fewest cover nodes, longer runs first', () => {
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
  test('finishes exactly the canonical tree for every world', () => {
    fc.assert(
      fc.property(worlds, ({ numLanes, worldSize }) => {
        const { folds, leaves, finish } = planLaneTree(numLanes, worldSize);
        const values = leaves.map(({ rank, node }) => {
          const { level, index } = folds[rank]!.cover[node]!;
          return expression(level, index);
        });
        let result = values[0]!;
        for (const { operands } of finish) {
          const [a, b, c, d] = operands.map((leaf) => values[leaf]!);
          result = c === undefined ? `(${a!}+${b!})` : `((${a!}+${b!})+(${c}+${d!}))`;
          values[operands[0]] = result;
        }
        assert.equal(result, expression(Math.log2(numLanes), 0));
      }),
    );
  });

  test('fuses four workers into one operation', () => {
    assert.deepEqual(planLaneTree(4, 4).finish, [{ operands: [0, 1, 2, 3] }]);
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
