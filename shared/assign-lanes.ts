/**
 * Assigns lanes to ranks: contiguous runs in rank order, even, or fitted to measured speeds. The bits are the same for any assignment
 * (lane-tree.ts); the time is not. It is the compute time of the slowest rank, then the number of cover nodes, each a frame on the wire.
 *
 * Assumption: the compute time of a rank is lanes / speed; costs of a step that do not depend on its lanes are not in the speed.
 *
 * Pure: no sockets, no memory, no clock.
 */
import { assertInvariant, TrainerError } from './errors.ts';
import { checkNumLanes, type LaneRun } from './lane-tree.ts';

export interface LaneAssignment {
  /** One run per rank, in rank order; together they are lanes 0 … numLanes−1. */
  readonly runs: readonly LaneRun[];
  /** One sentence for the log. */
  readonly reason: string;
}

/** Most pairs of start and length of a run that the search for few cover nodes tries: under 0.1 s. */
const MAX_TRIED_RUNS = 2 ** 20;

/** Least speed of a rank as a share of the fastest; a slower rank counts as this. */
const SLOWEST_RELATIVE_SPEED = 2 ** -30;

/** Up to this many ranks a reason lists the lanes of each; beyond, only the fewest and the most. */
const MAX_LISTED_RANKS = 16;

/**
 * Without speeds: minimises the total number of cover nodes among all splits whose run lengths differ by at most one. Ties: longer runs
 * first.
 *
 * With speeds: minimises max(lanes / speed) among all splits with at least one lane a rank. Ties: fewest cover nodes, then least sum of
 * lanes² / speed, then longer runs first. If there are very many ties, only splits near the most even one are compared.
 * @param speeds lanes per second, one positive number a rank
 * @throws CONFIG_INVALID if numLanes is no power of two, or worldSize is not in 1 … numLanes
 */
export function assignLanes(numLanes: number, worldSize: number, speeds?: readonly number[]): LaneAssignment {
  checkNumLanes(numLanes);
  if (!Number.isInteger(worldSize) || worldSize < 1 || worldSize > numLanes)
    throw new TrainerError(
      'CONFIG_INVALID',
      `worldSize: expected 1 to ${numLanes} (at least one lane a worker), found ${worldSize}; ` +
        'run fewer workers or start the run with more lanes',
    );
  return speeds === undefined ? assignEvenly(numLanes, worldSize) : assignBySpeed(numLanes, worldSize, speeds);
}

function assignEvenly(numLanes: number, worldSize: number): LaneAssignment {
  const shorter = Math.floor(numLanes / worldSize);
  const numLonger = numLanes % worldSize;
  const runs = placeLongerRuns(worldSize, shorter, numLonger);
  const lengths = numLonger === 0 ? `${shorter}` : `${shorter} or ${shorter + 1}`;
  const reason =
    `${numLanes} lanes over ${worldSize} workers: ${lengths} lanes each, ` +
    `${countNodes(runs)} tree nodes to exchange (the fewest for such an even split)`;
  return { runs, reason };
}

/** The decisions from one rank on: whether this rank has a longer run, and the decisions of the ranks after it. */
interface Placement {
  readonly cost: number;
  readonly isLonger: boolean;
  /** Undefined after the last rank. */
  readonly after: Placement | undefined;
}

/** best[l] = fewest cover nodes of the ranks so far if l of them have the longer run. */
function placeLongerRuns(worldSize: number, shorter: number, numLonger: number): LaneRun[] {
  // Backwards over ranks: then reading the choices forwards finds longer runs first.
  let best = new Map<number, Placement>([[numLonger, { cost: 0, isLonger: false, after: undefined }]]);
  for (let rank = worldSize - 1; rank >= 0; rank--) {
    const next = new Map<number, Placement>();
    for (const [usedAfter, after] of best) {
      for (const isLonger of [true, false]) {
        const used = usedAfter - (isLonger ? 1 : 0); // longer runs among the ranks before this one
        if (used < 0 || used > rank) continue;
        const first = rank * shorter + used;
        const total = after.cost + countCover(first, first + shorter + (isLonger ? 1 : 0));
        const known = next.get(used);
        if (known === undefined || total < known.cost || (total === known.cost && isLonger))
          next.set(used, { cost: total, isLonger, after });
      }
    }
    best = next;
  }
  const lengths: number[] = [];
  for (let place = best.get(0)!; place.after !== undefined; place = place.after)
    lengths.push(shorter + (place.isLonger ? 1 : 0));
  return toRuns(lengths);
}

function assignBySpeed(numLanes: number, worldSize: number, speeds: readonly number[]): LaneAssignment {
  assertInvariant(
    speeds.length === worldSize && speeds.every((speed) => speed > 0 && Number.isFinite(speed)),
    `speeds are one positive number for each of ${worldSize} ranks, found ${speeds.join(', ')}`,
  );
  // Scale by a power of two: equal times stay equal. Bound the ratio: times stay finite. A rank at the bound gets one lane.
  const scale = 2 ** Math.floor(Math.log2(Math.max(...speeds)));
  const relative = speeds.map((speed) => Math.max(speed / scale, SLOWEST_RELATIVE_SPEED));
  const runs = toRuns(fewestNodes(numLanes, relative, fastestSplit(numLanes, relative)));
  const longestMs = (of: readonly LaneRun[]): number =>
    1000 * Math.max(...of.map(({ first, end }, rank) => (end - first) / speeds[rank]!));
  const [ms, evenMs] = [longestMs(runs), longestMs(assignEvenly(numLanes, worldSize).runs)];
  const gain =
    ms < evenMs
      ? `${formatMs(ms)} ms for the slowest instead of ${formatMs(evenMs)} ms with an even split (${Math.round(100 * (1 - ms / evenMs))} % less)`
      : `${formatMs(ms)} ms for the slowest, as with an even split`;
  const lengths = runs.map(({ first, end }) => end - first);
  const listed =
    worldSize <= MAX_LISTED_RANKS ? lengths.join(', ') : `${Math.min(...lengths)} to ${Math.max(...lengths)}`;
  const reason =
    `${numLanes} lanes over ${worldSize} workers by measured speed: ${listed} lanes, ${gain}; ` +
    `${countNodes(runs)} tree nodes to exchange`;
  return { runs, reason };
}

/** Most lanes that a rank computes in that time, at least one. */
function lanesWithin(seconds: number, speed: number, numLanes: number): number {
  let lanes = Math.min(numLanes, Math.floor(seconds * speed));
  // Compare by the quotient, as everywhere: the product is rounded.
  while (lanes < numLanes && (lanes + 1) / speed <= seconds) lanes++;
  while (lanes > 1 && lanes / speed > seconds) lanes--;
  return Math.max(1, lanes);
}

/** The minimum of max(lanes / speed), and an even split that has it: no lane would be done sooner by another rank. @param speeds the highest is 1 to 2 */
function fastestSplit(numLanes: number, speeds: readonly number[]): number[] {
  const within = (seconds: number): number[] => speeds.map((speed) => lanesWithin(seconds, speed, numLanes));
  const sum = (lanes: readonly number[]): number => lanes.reduce((a, b) => a + b, 0);
  let [tooShort, enough] = [1, 2 * numLanes];
  while (enough > tooShort) {
    const middle = (tooShort + enough) / 2;
    if (middle === tooShort || middle === enough) break;
    if (sum(within(middle)) < numLanes) tooShort = middle;
    else enough = middle;
  }
  const lanes = within(tooShort);
  let left = numLanes - sum(lanes);
  for (const [rank, most] of within(enough).entries()) {
    const more = Math.min(left, most - lanes[rank]!);
    lanes[rank] = lanes[rank]! + more;
    left -= more;
  }
  return lanes;
}

/**
 * The split with the fewest cover nodes that takes no longer. Backwards over ranks: best[first] is the cost of this rank and those after
 * it if this one begins at lane `first`.
 *
 * Bound: runs begin and end at most `band` lanes from those of `base`. With few ranks or little slack that covers all splits.
 */
function fewestNodes(numLanes: number, speeds: readonly number[], base: readonly number[]): number[] {
  const worldSize = speeds.length;
  const longest = Math.max(...base.map((lanes, rank) => lanes / speeds[rank]!));
  const band = Math.floor((Math.sqrt(MAX_TRIED_RUNS / worldSize) - 1) / 2);
  const width = 2 * band + 1;
  // The choices from rank r on, if it begins at lane baseFirst(r) + place − band.
  let nodes = new Float64Array(width).fill(Number.POSITIVE_INFINITY);
  let unevenness = new Float64Array(width);
  nodes[band] = 0;
  const choices: Uint32Array[] = [];
  let baseEnd = numLanes;
  for (let rank = worldSize - 1; rank >= 0; rank--) {
    const [speed, baseFirst] = [speeds[rank]!, baseEnd - base[rank]!];
    const most = lanesWithin(longest, speed, numLanes);
    const bestNodes = new Float64Array(width).fill(Number.POSITIVE_INFINITY);
    const bestUnevenness = new Float64Array(width);
    const lengths = new Uint32Array(width);
    for (let first = Math.max(rank, baseFirst - band); first <= Math.min(numLanes - 1, baseFirst + band); first++) {
      const place = first - baseFirst + band;
      for (let end = Math.min(first + most, baseEnd + band); end > Math.max(first, baseEnd - band - 1); end--) {
        const placeAfter = end - baseEnd + band;
        if (nodes[placeAfter] === Number.POSITIVE_INFINITY) continue;
        const total = nodes[placeAfter]! + countCover(first, end);
        if (total > bestNodes[place]!) continue;
        const uneven = unevenness[placeAfter]! + (end - first) ** 2 / speed;
        if (total === bestNodes[place]! && uneven >= bestUnevenness[place]!) continue;
        bestNodes[place] = total;
        bestUnevenness[place] = uneven;
        lengths[place] = end - first;
      }
    }
    [nodes, unevenness] = [bestNodes, bestUnevenness];
    choices.unshift(lengths);
    baseEnd = baseFirst;
  }
  let [first, baseFirst] = [0, 0];
  return choices.map((lengths, rank) => {
    const length = lengths[first - baseFirst + band]!;
    first += length;
    baseFirst += base[rank]!;
    return length;
  });
}

/** coverRun(run).length: nodes grow up to the last multiple of the largest power of two in the run, and shrink from there. */
function countCover(first: number, end: number): number {
  const level = 31 - Math.clz32(first ^ end);
  const top = (end >>> level) << level;
  return countOnes(top - first) + countOnes(end - top);
}

function countOnes(value: number): number {
  let ones = 0;
  for (let rest = value; rest !== 0; rest &= rest - 1) ones++;
  return ones;
}

function countNodes(runs: readonly LaneRun[]): number {
  return runs.reduce((sum, { first, end }) => sum + countCover(first, end), 0);
}

function toRuns(lengths: readonly number[]): LaneRun[] {
  let first = 0;
  return lengths.map((length) => {
    const run = { first, end: first + length };
    first = run.end;
    return run;
  });
}

function formatMs(ms: number): string {
  return ms >= 100 ? ms.toFixed(0) : ms.toPrecision(3);
}
