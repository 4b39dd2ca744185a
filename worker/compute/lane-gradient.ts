/**
 * One lane's results: its gradients, from the engine into the arena, and its losses. Gradients of microbatches are added in the lane's slot.
 * With the last microbatch each bucket is folded into the tree sums below it as soon as its gradients are complete.
 *
 * Assumption: every microbatch has each parameter once, last parameter first: the order of the plan.
 */
import { assertInvariant } from '../../shared/errors.ts';
import type { Arena } from '../arena/arena.ts';
import type { BucketPlan } from '../arena/bucket-plan.ts';
import type { FoldStep } from '../../shared/lane-tree.ts';
import type { BatchArrays } from '../../mixture/feed/batch.ts';
import type { LaneSums } from '../../shared/protocol/messages.ts';
import type { StepOutput } from '../engine/engine.ts';

export class LaneGradient {
  readonly #arena: Arena;
  readonly #plan: BucketPlan;
  readonly #slot: number;
  readonly #fold: FoldStep;
  readonly #numMicrobatches: number;
  /** Called when a bucket of this lane is folded. */
  readonly #onBucket: (bucket: number) => void;
  /** Index in the plan of the next gradient. */
  #position = 0;

  constructor(init: {
    arena: Arena;
    plan: BucketPlan;
    fold: FoldStep;
    numMicrobatches: number;
    onBucket: (bucket: number) => void;
  }) {
    this.#arena = init.arena;
    this.#plan = init.plan;
    this.#fold = init.fold;
    this.#slot = init.fold.slot;
    this.#numMicrobatches = init.numMicrobatches;
    this.#onBucket = init.onBucket;
  }

  /**
   * Adds one gradient of one microbatch. @param parameter number in forward order
   * @throws INTERNAL for a gradient out of its order or of another size
   */
  add(microbatch: number, parameter: number, gradient: Float32Array): void {
    const { parameters } = this.#plan;
    const position = parameters.length - 1 - parameter;
    assertInvariant(
      position === this.#position,
      `gradient ${parameters.length - 1 - this.#position} comes next, got ${parameter}`,
    );
    this.#position = (position + 1) % parameters.length;
    const { name, offsetBytes, numElements, bucket } = parameters[position]!;
    assertInvariant(gradient.length === numElements, `${name} has ${numElements} elements, got ${gradient.length}`);
    const sum = this.#arena.floats(this.#slot, offsetBytes, numElements);
    if (microbatch === 0) sum.set(gradient);
    else for (let i = 0; i < numElements; i++) sum[i] = sum[i]! + gradient[i]!;
    const isLastOfBucket = parameters[position + 1]?.bucket !== bucket;
    if (!isLastOfBucket || microbatch !== this.#numMicrobatches - 1) return;
    const { startBytes, endBytes } = this.#plan.buckets[bucket]!;
    this.#arena.fold(this.#fold, startBytes, endBytes);
    this.#onBucket(bucket);
  }
}

/** Loss sums of one lane by task: its microbatches' losses added in float64, in one fixed order. */
export class LaneLoss {
  readonly #lane: number;
  readonly #tasks = new Map<number, { loss: number; targetTokens: number }>();
  #zLoss = 0;
  #inputTokens = 0;

  constructor(lane: number) {
    this.#lane = lane;
  }

  /** Adds a microbatch, in row-major order of its target positions. */
  add({ crossEntropy, zLoss }: StepOutput, { taskOfTarget }: BatchArrays, inputTokens: number): void {
    this.#inputTokens += inputTokens;
    for (let i = 0; i < taskOfTarget.length; i++) {
      const task = taskOfTarget[i]!;
      if (task < 0) continue;
      let sums = this.#tasks.get(task);
      if (sums === undefined) this.#tasks.set(task, (sums = { loss: 0, targetTokens: 0 }));
      sums.loss += crossEntropy[i]!;
      sums.targetTokens += 1;
      this.#zLoss += zLoss[i]!;
    }
  }

  sums(): LaneSums {
    const tasks = [...this.#tasks].sort(([a], [b]) => a - b).map(([task, sums]) => ({ task, ...sums }));
    return { lane: this.#lane, tasks, zLoss: this.#zLoss, inputTokens: this.#inputTokens };
  }
}
