/** Loss sums of one lane: what its microbatches' losses add up to, per task, in float64 and in one fixed order. */
import type { BatchArrays } from '../../mixture/feed/batch.ts';
import type { LaneSums } from '../../shared/protocol/messages.ts';
import type { StepOutput } from '../engine/engine.ts';

export class LaneLoss {
  readonly #lane: number;
  readonly #tasks = new Map<number, { loss: number; targetTokens: number }>();
  #zLoss = 0;
  #inputTokens = 0;

  constructor(lane: number) {
    this.#lane = lane;
  }

  /** Adds a microbatch; its target positions are gone through in row-major order. */
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
