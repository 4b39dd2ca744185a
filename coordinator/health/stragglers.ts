/**
 * Finds slow ranks and slow links, with their causes, in the step reports of one generation. Pure: no clock, no socket.
 *
 * Definitions, all of one step. A rank's *lane time* is (feed + compute) / lanes, so that ranks with different numbers of lanes compare;
 * the *typical* one is the lower median of all ranks, so that of two ranks the faster is typical. A rank is slow where its lane time is
 * above SLOW_FACTOR times the typical one and this costs it more than NOTICEABLE_MS a step. It becomes a straggler when it has been
 * slow in STEADY_STEPS consecutive steps and by its exponentially weighted mean too, and stops being one in the same way: one long step
 * is no straggler. The cause is `feed` where feed makes up most of what it takes beyond the typical rank, else `compute`.
 *
 * The links. A rank begins a step after its update, so update + feed + compute is its way to the all-reduce. The part of the shortest total
 * that the slowest way does not explain is spent in the all-reduce itself, beyond the part hidden behind the backward pass. The slow rank
 * is not identifiable: all ranks have the same period, so a rank that gets its sums late begins its next step late and delays the others by
 * as much; communicate + way is the same on all. Nor are slow links distinguishable from processors that are busy adding. So this notice
 * names no rank.
 *
 * Limits: if more than half of the ranks are equally slow, they are typical. Costs of a step that do not depend on its lanes count as lane
 * time. A rank that is slow in its update alone is not reported: no other assignment of lanes would help it.
 */
import type { StepTimes } from '../../shared/protocol/messages.ts';
import { lowerMedian } from '../../shared/statistics.ts';

const SLOW_FACTOR = 1.5;

/** Steps in a row before something has begun or ended. */
const STEADY_STEPS = 5;

/** Weight of the newest step in a mean. */
const MEAN_WEIGHT = 0.2;

/** A smaller cost per step is not reported, ms: chance decides between such short times. */
const NOTICEABLE_MS = 50;

/** Links are slow where the all-reduce takes more than this share of a step. */
const SLOW_LINKS_SHARE = 0.5;

/** The first steps of a generation compile, connect and fill caches. */
const WARM_UP_STEPS = 1;

export interface RankTimes {
  readonly rank: number;
  readonly workerId: string;
  readonly numLanes: number;
  readonly ms: StepTimes;
}

export type StragglerCause = 'feed' | 'compute';

export interface RankNotice {
  readonly kind: 'rank';
  readonly change: 'begins' | 'ends' | 'cause';
  readonly step: number;
  readonly rank: number;
  readonly workerId: string;
  /** Its mean lane time by the typical one. */
  readonly factor: number;
  readonly cause: StragglerCause;
  /** How much later than a typical rank it reaches the all-reduce, ms a step; 0 where it has few enough lanes. */
  readonly waitMs: number;
  readonly sentence: string;
}

export interface LinksNotice {
  readonly kind: 'links';
  readonly change: 'begins' | 'ends';
  readonly step: number;
  /** Mean time of a step in the all-reduce, without waiting for the slowest rank. */
  readonly linksMs: number;
  readonly stepMs: number;
  readonly sentence: string;
}

/** Only changes are reported. */
export type StragglerNotice = RankNotice | LinksNotice;

/** Feed, compute: of a lane. Update: of a step. */
type Mean = 'feed' | 'compute' | 'update';
type Times = Readonly<Record<Mean, number>>;

interface RankState {
  readonly rank: number;
  readonly workerId: string;
  readonly numLanes: number;
  mean: Times;
  readonly isSlow: Steady<boolean>;
  readonly cause: Steady<StragglerCause>;
}

/** A value that changes only after STEADY_STEPS consecutive steps with another one, if the means have another one too. */
class Steady<Value> {
  value: Value;
  #numOthers = 0;

  constructor(value: Value) {
    this.value = value;
  }

  /** @returns whether the value has changed */
  observe(ofStep: Value, ofMeans: Value): boolean {
    this.#numOthers = ofStep === this.value ? 0 : this.#numOthers + 1;
    if (this.#numOthers < STEADY_STEPS || ofMeans === this.value) return false;
    this.set(ofMeans);
    return true;
  }

  set(value: Value): void {
    this.value = value;
    this.#numOthers = 0;
  }
}

export class Stragglers {
  #ranks: RankState[] = [];
  #numSteps = 0;
  #linksMs = 0;
  #stepMs = 0;
  readonly #areLinksSlow = new Steady(false);

  /** @param reports of all ranks of the generation, in rank order */
  observe(step: number, reports: readonly RankTimes[]): StragglerNotice[] {
    if (reports.length < 2) return [];
    this.#numSteps++;
    if (this.#numSteps <= WARM_UP_STEPS) return [];
    const times = reports.map(({ numLanes, ms }) => ({
      feed: ms.feed / numLanes,
      compute: ms.compute / numLanes,
      update: ms.update,
    }));
    if (this.#ranks.length === 0) this.#ranks = reports.map((report, i) => newRank(report, times[i]!));
    for (const [i, state] of this.#ranks.entries()) state.mean = mixTimes(state.mean, times[i]!);
    const means = this.#ranks.map(({ mean }) => mean);
    const [typical, typicalMean] = [typicalOf(times), typicalOf(means)];
    const notices: StragglerNotice[] = this.#ranks.flatMap((state, i) => {
      const ofStep = judge(times[i]!, typical, state.numLanes);
      return this.#judgeRank(step, state, ofStep, judge(means[i]!, typicalMean, state.numLanes));
    });
    return [...notices, ...this.#judgeLinks(step, reports)];
  }

  /** Lanes per second of each rank, for assignLanes; undefined until there are enough steps. */
  speeds(): number[] | undefined {
    if (this.#numSteps < WARM_UP_STEPS + STEADY_STEPS || this.#ranks.some(({ mean }) => laneTime(mean) <= 0))
      return undefined;
    return this.#ranks.length === 0 ? undefined : this.#ranks.map(({ mean }) => 1000 / laneTime(mean));
  }

  #judgeRank(step: number, state: RankState, ofStep: Judgement, ofMeans: Judgement): RankNotice[] {
    const { rank, workerId, isSlow, cause } = state;
    let change: RankNotice['change'];
    if (isSlow.observe(ofStep.isSlow, ofMeans.isSlow)) {
      change = isSlow.value ? 'begins' : 'ends';
      if (isSlow.value) cause.set(ofMeans.cause);
    } else if (isSlow.value && cause.observe(ofStep.cause, ofMeans.cause)) change = 'cause';
    else return [];
    const { factor, typicalMs } = ofMeans;
    const waitMs = Math.max(0, wayOf(state) - lowerMedian(this.#ranks.map(wayOf)));
    const lane = `${factor.toFixed(1)} times a typical rank's time a lane (${formatMs(laneTime(state.mean))} instead of ${formatMs(typicalMs)} ms)`;
    const wait =
      waitMs > 0
        ? `the others wait ${formatMs(waitMs)} ms a step for it`
        : `with ${state.numLanes} lanes it delays no other rank`;
    const sentence = {
      begins: `rank ${rank} (${workerId}) is slow: ${lane}, most of it ${cause.value}; ${wait}`,
      cause: `rank ${rank} (${workerId}) is slow for another reason, most of it is ${cause.value} now: ${lane}; ${wait}`,
      ends: `rank ${rank} (${workerId}) is slow no more: ${lane}`,
    }[change];
    return [{ kind: 'rank', change, step, rank, workerId, factor, cause: cause.value, waitMs, sentence }];
  }

  #judgeLinks(step: number, reports: readonly RankTimes[]): LinksNotice[] {
    const ways = reports.map(({ ms }) => ms.update + ms.feed + ms.compute);
    const stepMs = Math.min(...reports.map(({ ms }) => ms.total));
    const linksMs = Math.max(0, stepMs - Math.max(...ways));
    const isFirst = this.#numSteps === WARM_UP_STEPS + 1;
    this.#stepMs = isFirst ? stepMs : mix(this.#stepMs, stepMs);
    this.#linksMs = isFirst ? linksMs : mix(this.#linksMs, linksMs);
    const isSlow = (links: number, all: number): boolean => links > NOTICEABLE_MS && links > SLOW_LINKS_SHARE * all;
    if (!this.#areLinksSlow.observe(isSlow(linksMs, stepMs), isSlow(this.#linksMs, this.#stepMs))) return [];
    const change = this.#areLinksSlow.value ? 'begins' : 'ends';
    const times = `${formatMs(this.#linksMs)} of ${formatMs(this.#stepMs)} ms a step are spent in the all-reduce itself, while no rank computes`;
    const sentence =
      change === 'begins'
        ? `the links are slow: ${times}; the slow rank is not identifiable`
        : `the links are slow no more: ${times}`;
    return [{ kind: 'links', change, step, linksMs: this.#linksMs, stepMs: this.#stepMs, sentence }];
  }
}

interface Judgement {
  readonly isSlow: boolean;
  readonly cause: StragglerCause;
  readonly factor: number;
  /** Lane time of the typical rank. */
  readonly typicalMs: number;
}

/** Lower medians over the ranks, of a lane, ms. */
interface Typical {
  readonly laneMs: number;
  readonly feedMs: number;
  readonly computeMs: number;
}

function typicalOf(all: readonly Times[]): Typical {
  return {
    laneMs: lowerMedian(all.map(laneTime)),
    feedMs: lowerMedian(all.map(({ feed }) => feed)),
    computeMs: lowerMedian(all.map(({ compute }) => compute)),
  };
}

function judge(own: Times, typical: Typical, numLanes: number): Judgement {
  const typicalMs = typical.laneMs;
  const excessMs = laneTime(own) - typicalMs;
  const feedMs = own.feed - typical.feedMs;
  const computeMs = own.compute - typical.computeMs;
  return {
    isSlow: excessMs > (SLOW_FACTOR - 1) * typicalMs && excessMs * numLanes > NOTICEABLE_MS,
    cause: feedMs > computeMs ? 'feed' : 'compute',
    factor: laneTime(own) / typicalMs,
    typicalMs,
  };
}

function newRank({ rank, workerId, numLanes }: RankTimes, mean: Times): RankState {
  return { rank, workerId, numLanes, mean, isSlow: new Steady(false), cause: new Steady<StragglerCause>('compute') };
}

/** Mean time from one all-reduce to the next, ms. */
function wayOf({ mean, numLanes }: RankState): number {
  return mean.update + numLanes * laneTime(mean);
}

function laneTime({ feed, compute }: Times): number {
  return feed + compute;
}

function mix(mean: number, value: number): number {
  return mean + MEAN_WEIGHT * (value - mean);
}

function mixTimes(mean: Times, value: Times): Times {
  return {
    feed: mix(mean.feed, value.feed),
    compute: mix(mean.compute, value.compute),
    update: mix(mean.update, value.update),
  };
}

function formatMs(ms: number): string {
  return ms < 10 ? ms.toPrecision(2) : ms.toFixed(0);
}
