/**
 * The canonical tree of a step: the tree sums that a rank forms alone from its lanes, and the additions that finish the tree.
 * The coordinator assigns lanes to ranks (assign-lanes.ts).
 *
 * Definition. `numLanes` is a power of two; lane gradients are the leaves of one balanced binary tree, and node
 * (level, index) is the sum of lanes [index·2^level, (index+1)·2^level) formed as left child + right child.
 * Float addition is commutative but not associative, so this tree fixes the bits of the root for every world size and every split.
 * A rank owns a contiguous run of lanes; its *cover* is the fewest nodes whose lanes are exactly that run.
 *
 * Pure: no sockets, no memory, no clock.
 */
import { TrainerError } from './errors.ts';

/** Lanes [first, end). */
export interface LaneRun {
  readonly first: number;
  readonly end: number;
}

export interface TreeNode {
  readonly level: number;
  readonly index: number;
}

/** Write the gradient of one lane to `slot`, then `merges` times add the top slot to the one below it. */
export interface FoldStep {
  readonly lane: number;
  readonly slot: number;
  readonly merges: number;
}

/** The additions of a rank's own lanes, one after another, like a binary counter: with a stack of `numSlots` gradients. */
export interface FoldPlan {
  readonly steps: readonly FoldStep[];
  readonly numSlots: number;
  /** Node `i` of the cover lies in slot `i` after the last step. */
  readonly cover: readonly TreeNode[];
}

/** A leaf of the finishing tree: cover node number `node` of `rank`. */
export interface CoverLeaf {
  readonly rank: number;
  readonly node: number;
}

/**
 * One addition: two operands a+b, or four (a+b)+(c+d). Operands are leaf ordinals. Each operation overwrites its first operand, except
 * the last one of a plan, which writes the result.
 */
export interface FinishOperation {
  readonly operands: readonly [number, number] | readonly [number, number, number, number];
}

export interface LaneTree {
  readonly numLanes: number;
  readonly worldSize: number;
  readonly runs: readonly LaneRun[];
  /** folds[rank] */
  readonly folds: readonly FoldPlan[];
  /** All cover nodes of all ranks in lane order. */
  readonly leaves: readonly CoverLeaf[];
  /** Empty if a leaf is the root. */
  readonly finish: readonly FinishOperation[];
}

/**
 * Every table about lanes for one generation.
 * @param runs one per rank, in rank order; the root has the same bits for any runs
 * @throws CONFIG_INVALID if numLanes is no power of two, or the runs are not all lanes in order, at least one lane a rank
 */
export function planLaneTree(numLanes: number, runs: readonly LaneRun[]): LaneTree {
  checkNumLanes(numLanes);
  checkRuns(numLanes, runs);
  const folds = runs.map(planFold);
  const covers = folds.map((fold) => fold.cover);
  return { numLanes, worldSize: runs.length, runs, folds, ...planFinish(numLanes, covers) };
}

/** With this many, the lanes of a step and the members of a generation fit into one message. */
export const MAX_LANES = 65_536;

/** @throws CONFIG_INVALID for a number that is no power of two from 1 to MAX_LANES */
export function checkNumLanes(numLanes: number): void {
  if (!Number.isInteger(numLanes) || numLanes < 1 || numLanes > MAX_LANES || (numLanes & (numLanes - 1)) !== 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `numLanes: expected a power of two from 1 to ${MAX_LANES}, found ${numLanes}; the canonical tree needs it`,
    );
}

function checkRuns(numLanes: number, runs: readonly LaneRun[]): void {
  let next = 0;
  for (const [rank, { first, end }] of runs.entries()) {
    if (first !== next || !Number.isInteger(end) || end <= first || end > numLanes)
      throw new TrainerError(
        'CONFIG_INVALID',
        `lanes of rank ${rank}: expected [${next}, end) with an end from ${next + 1} to ${numLanes}, found [${first}, ${end}); ` +
          'each lane belongs to exactly one rank, each rank has one at least',
      );
    next = end;
  }
  if (next !== numLanes)
    throw new TrainerError(
      'CONFIG_INVALID',
      `lanes of ${runs.length} ranks: expected ${numLanes} in all, found ${next}; nobody has the rest`,
    );
}

/** The fewest tree nodes that cover exactly the run, left to right. */
export function coverRun(run: LaneRun): TreeNode[] {
  const nodes: TreeNode[] = [];
  let lane = run.first;
  while (lane < run.end) {
    let level = 0;
    // The largest node that starts here and ends inside the run.
    while (lane % 2 ** (level + 1) === 0 && lane + 2 ** (level + 1) <= run.end) level++;
    nodes.push({ level, index: lane / 2 ** level });
    lane += 2 ** level;
  }
  return nodes;
}

/** Folds the lanes of one rank, in lane order. Each merge adds two siblings, so every sum is a tree node. */
export function planFold(run: LaneRun): FoldPlan {
  const stack: TreeNode[] = [];
  const steps: FoldStep[] = [];
  let numSlots = 0;
  for (let lane = run.first; lane < run.end; lane++) {
    const slot = stack.length;
    stack.push({ level: 0, index: lane });
    numSlots = Math.max(numSlots, stack.length);
    let merges = 0;
    for (;;) {
      const right = stack.at(-1);
      const left = stack.at(-2);
      if (left?.level !== right!.level || right!.index % 2 === 0) break;
      stack.splice(-2, 2, { level: left.level + 1, index: left.index / 2 });
      merges++;
    }
    steps.push({ lane, slot, merges });
  }
  return { steps, numSlots, cover: stack };
}

/** The additions that finish the tree from the cover nodes of all ranks: depth first, left to right, fused in fours if the shape allows. */
export function planFinish(
  numLanes: number,
  covers: readonly (readonly TreeNode[])[],
): { leaves: CoverLeaf[]; finish: FinishOperation[] } {
  const leaves: CoverLeaf[] = [];
  const ordinals = new Map<string, number>();
  for (const [rank, cover] of covers.entries())
    for (const [node, { level, index }] of cover.entries()) {
      ordinals.set(`${level}/${index}`, leaves.length);
      leaves.push({ rank, node });
    }
  const finish: FinishOperation[] = [];
  const isLeaf = (level: number, index: number): boolean => ordinals.has(`${level}/${index}`);
  const visit = (level: number, index: number): number => {
    const ordinal = ordinals.get(`${level}/${index}`);
    if (ordinal !== undefined) return ordinal;
    if (level === 0) throw new TrainerError('INTERNAL', `invariant broken: no rank covers lane ${index}`);
    const left = 2 * index;
    if (!isLeaf(level - 1, left) && !isLeaf(level - 1, left + 1)) {
      const a = visit(level - 2, 2 * left);
      const b = visit(level - 2, 2 * left + 1);
      const c = visit(level - 2, 2 * left + 2);
      const d = visit(level - 2, 2 * left + 3);
      finish.push({ operands: [a, b, c, d] });
      return a;
    }
    const a = visit(level - 1, left);
    const b = visit(level - 1, left + 1);
    finish.push({ operands: [a, b] });
    return a;
  };
  visit(Math.log2(numLanes), 0);
  return { leaves, finish };
}

/** Sum of one number per lane in the canonical tree (float64), so that logged losses have the same bits for every world size. */
export function treeSum(values: readonly number[]): number {
  const sums = Float64Array.from(values);
  for (let length = sums.length; length > 1; length = (length + 1) >> 1)
    for (let i = 0; i < length; i += 2) sums[i >> 1] = sums[i]! + (i + 1 < length ? sums[i + 1]! : 0);
  return sums[0] ?? 0;
}
