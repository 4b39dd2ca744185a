/**
 * One training step on this worker: its lanes one after the other, each in microbatches, gradients announced bucket by bucket; then the update
 * from the reduced gradient. The order of lanes and microbatches decides bits.
 */
import type { Clock } from '../../shared/clock.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { LaneSums, StepTimes } from '../../shared/protocol/messages.ts';
import { Arena, type ArenaLayout } from '../arena/arena.ts';
import type { BucketPlan } from '../arena/bucket-plan.ts';
import { type LaneTree, planLaneTree } from '../../shared/lane-tree.ts';
import { clipFactor, type OptimizerSettings } from '../../shared/optimizer.ts';
import type { Engine } from '../engine/engine.ts';
import { dropoutKeys } from '../model/dropout.ts';
import type { Feed } from '../feed/feed.ts';
import type { BatchPlace, LaneRows } from '../feed/feed-messages.ts';
import type { Deal, FormMessage, Reducer } from '../network/network-messages.ts';
import { LaneGradient, LaneLoss } from './lane-gradient.ts';
import type { ProgressCell } from '../network/progress-cell.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { microbatchesPerLane } from '../feed/start-feed.ts';
import { planGradient } from '../collective/plan-gradient.ts';

/** The gradient memory of one rank in one generation. */
export interface GradientMemory {
  readonly arena: Arena;
  readonly plan: BucketPlan;
  readonly laneTree: LaneTree;
  readonly rank: number;
}

export interface StepRunnerInit {
  readonly engine: Engine;
  readonly feed: Pick<Feed, 'next' | 'release'>;
  readonly gradient: GradientMemory;
  readonly microbatchesPerLane: number;
  /** Updates behind the optimizer's state at step 0. */
  readonly optimizerStep?: number;
  /** Clips the gradient of a step. */
  readonly optimizer: Pick<OptimizerSettings, 'maxGradNorm'>;
  /** Keys of the rows of a microbatch; absent without dropout. */
  readonly dropoutKeys?: ((place: BatchPlace) => Int32Array) | undefined;
  readonly reducer: Reducer;
  readonly progress: ProgressCell;
  readonly clock: Clock;
}

export type StepOutcome =
  | { readonly kind: 'applied'; readonly lanes: LaneSums[]; readonly ms: StepTimes }
  /** The summed gradient is not finite, which every rank finds alike, or an own loss is not finite: nothing was applied. */
  | {
      readonly kind: 'not-finite';
      readonly reason: string;
      readonly losses: readonly BadLoss[];
      readonly isGradientFinite?: true;
    };

/** A loss that is not finite; task null: the z-loss of the lane. */
export interface BadLoss {
  readonly lane: number;
  readonly task: number | null;
  readonly loss: string;
}

export class StepRunner {
  readonly #init: StepRunnerInit;
  /** Views of the reduced gradient in slot 0, one for each parameter, in the engine's order. */
  readonly #gradients: readonly Float32Array[];
  #feedMs = 0;
  #isStateWhole = true;

  constructor(init: StepRunnerInit) {
    this.#init = init;
    const { arena, plan } = init.gradient;
    this.#gradients = plan.parameters
      .map(({ offsetBytes, numElements }) => arena.floats(0, offsetBytes, numElements))
      .reverse();
  }

  /** False while an update has begun and not ended: the engine then has neither the state before the step nor the one after. */
  get isStateWhole(): boolean {
    return this.#isStateWhole;
  }

  /**
   * Computes, reduces, checks and applies.
   * @throws MESSAGE_INVALID for a deal of other lanes than this rank's; the feed's or the collective's failure; ABORTED
   */
  async run(deal: Deal, signal: AbortSignal): Promise<StepOutcome> {
    const { engine, optimizer, reducer, progress, clock, optimizerStep = 0 } = this.#init;
    const { step, learningRate, targetTokens } = deal;
    throwIfAborted(signal, `step ${step}`);
    this.#checkLanes(deal);
    const startMs = clock.monotonicMs();
    this.#feedMs = 0;
    reducer.beginStep(step);
    const lanes: LaneSums[] = [];
    for (const [index, lane] of deal.lanes.entries()) lanes.push(await this.#computeLane(step, lane, index, signal));
    const computedMs = clock.monotonicMs();
    progress.advance('communicate', step - 1);
    const reduced = await reducer.reduced(step, signal);
    if (reduced.firstNonFiniteBytes !== null) {
      progress.advance('waiting', step - 1);
      return { kind: 'not-finite', ...this.#describeNonFinite(reduced.firstNonFiniteBytes, lanes) };
    }
    const losses = findBadLosses(lanes);
    if (losses.length > 0) {
      progress.advance('waiting', step - 1);
      const reason = 'a loss is not finite, though the gradient is';
      return { kind: 'not-finite', reason, losses, isGradientFinite: true };
    }
    const reducedMs = clock.monotonicMs();
    progress.advance('update', step - 1);
    this.#isStateWhole = false;
    const clip = clipFactor(optimizer, Math.sqrt(reduced.sumOfSquares) / targetTokens);
    await engine.apply(this.#gradients, {
      step: optimizerStep + step - 1,
      learningRate,
      gradientScale: clip / targetTokens,
    });
    this.#isStateWhole = true;
    const endMs = clock.monotonicMs();
    progress.advance('waiting', step);
    const ms = {
      feed: this.#feedMs,
      compute: computedMs - startMs - this.#feedMs,
      communicate: reducedMs - computedMs,
      update: endMs - reducedMs,
      total: endMs - startMs,
    };
    return { kind: 'applied', lanes, ms };
  }

  async #computeLane(step: number, { lane }: LaneRows, index: number, signal: AbortSignal): Promise<LaneSums> {
    const { engine, feed, microbatchesPerLane, dropoutKeys, reducer, progress, clock } = this.#init;
    const { arena, plan, laneTree, rank } = this.#init.gradient;
    const { steps } = laneTree.folds[rank]!;
    const isLastLane = index === steps.length - 1;
    const gradient = new LaneGradient({
      arena,
      plan,
      fold: steps[index]!,
      numMicrobatches: microbatchesPerLane,
      onBucket: (bucket) => {
        if (isLastLane) reducer.bucketReady(bucket);
      },
    });
    const loss = new LaneLoss(lane);
    for (let microbatch = 0; microbatch < microbatchesPerLane; microbatch++) {
      const waitingMs = clock.monotonicMs();
      progress.advance('feed', step - 1);
      const place = { step, lane, microbatch };
      const batch = await feed.next(place, signal);
      this.#feedMs += clock.monotonicMs() - waitingMs;
      progress.advance('compute', step - 1);
      try {
        const arrays = dropoutKeys === undefined ? batch.arrays : { ...batch.arrays, dropoutKeys: dropoutKeys(place) };
        const output = await engine.step(arrays, (parameter, values) => gradient.add(microbatch, parameter, values));
        loss.add(output, batch.arrays, batch.inputTokens);
      } finally {
        feed.release(batch);
      }
      // An engine may block the event loop: let commands and an abort be handled.
      await new Promise(setImmediate);
    }
    return loss.sums();
  }

  /** Lanes must come in the order of the tree: another order would not give the canonical sum. */
  #checkLanes({ step, lanes }: Deal): void {
    const { laneTree, rank } = this.#init.gradient;
    const expected = laneTree.folds[rank]!.steps.map(({ lane }) => lane).join(', ');
    const found = lanes.map(({ lane }) => lane).join(', ');
    if (found !== expected)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `step ${step}: expected the lanes ${expected} of rank ${rank}, was dealt ${found === '' ? 'none' : found}`,
      );
  }

  #describeNonFinite(
    firstBytes: number,
    lanes: readonly LaneSums[],
  ): Pick<Extract<StepOutcome, { kind: 'not-finite' }>, 'reason' | 'losses'> {
    const parameter = this.#init.gradient.plan.parameters.findLast(({ offsetBytes }) => offsetBytes <= firstBytes);
    return {
      reason: `the gradient of ${parameter?.name ?? 'a parameter'} is not finite`,
      losses: findBadLosses(lanes),
    };
  }
}

function findBadLosses(lanes: readonly LaneSums[]): BadLoss[] {
  return lanes.flatMap(({ lane, tasks, zLoss }): BadLoss[] => [
    ...tasks.filter(({ loss }) => !Number.isFinite(loss)).map(({ task, loss }) => ({ lane, task, loss: String(loss) })),
    ...(Number.isFinite(zLoss) ? [] : [{ lane, task: null, loss: String(zLoss) }]),
  ]);
}

export interface CreateStepRunnerInit extends Pick<
  StepRunnerInit,
  'engine' | 'feed' | 'reducer' | 'progress' | 'clock'
> {
  readonly config: RunConfig;
  readonly form: Pick<FormMessage, 'rank' | 'members'>;
  /** The memory that the network thread allocated. */
  readonly formed: { readonly memory: WebAssembly.Memory; readonly layout: ArenaLayout };
}

/** Rows are numbered in the whole step, lane after lane: so a row has the same key in any microbatch and on any worker. */
function keysOf({ seed, training }: RunConfig): (place: BatchPlace) => Int32Array {
  const { rowsPerStep, numLanes, microbatchRows } = training;
  return ({ step, lane, microbatch }) => {
    const firstRow = lane * (rowsPerStep / numLanes) + microbatch * microbatchRows;
    return dropoutKeys(seed, { step, firstRow, numRows: microbatchRows });
  };
}

/** The step runner of a generation. */
export function createStepRunner(init: CreateStepRunnerInit): StepRunner {
  const { config, form, formed, ...rest } = init;
  const lanes = form.members.map((member) => member.lanes);
  const gradient = {
    arena: new Arena(formed.layout, formed.memory),
    plan: planGradient(config),
    laneTree: planLaneTree(config.training.numLanes, lanes),
    rank: form.rank,
  };
  const { optimizer, training } = config;
  const { optimizerStep = 0 } = config.init ?? {};
  const dropoutKeys = training.dropout.rate === 0 ? undefined : keysOf(config);
  const settings = { optimizer, optimizerStep, dropoutKeys, microbatchesPerLane: microbatchesPerLane(config) };
  return new StepRunner({ ...rest, gradient, ...settings });
}
