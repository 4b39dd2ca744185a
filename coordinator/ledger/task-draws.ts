/**
 * Example ↔ draw of one task: draw c is example π(seed, task, ⌊c/n⌋)(c mod n) (mixture/plan/planner.ts). Two equal draws are therefore
 * the same example of the same task epoch.
 */
import { createInversePermutation, createPermutation, exampleOrderNames } from '../../mixture/plan/permutation.ts';
import type { TaskSize } from '../../mixture/plan/rates.ts';

/** A task as the ledger's headers name it. */
export type LedgerTask = Pick<TaskSize, 'name' | 'numExamples'>;

interface EpochOrder {
  readonly epoch: number;
  readonly indexOf: (k: number) => number;
  readonly placeOf: (index: number) => number;
}

/** The orders to keep: of the ending epoch and of the beginning one. */
const ORDERS_KEPT = 2;

export class TaskDraws {
  readonly #seed: number;
  readonly #task: LedgerTask;
  readonly #orders: EpochOrder[] = [];

  constructor(seed: number, task: LedgerTask) {
    this.#seed = seed;
    this.#task = task;
  }

  /** @returns undefined where the task has no example of this index */
  drawOf(index: number, epoch: number): number | undefined {
    const { numExamples } = this.#task;
    return index < numExamples ? epoch * numExamples + this.#order(epoch).placeOf(index) : undefined;
  }

  exampleOf(draw: number): { readonly index: number; readonly epoch: number } {
    const { numExamples } = this.#task;
    const epoch = Math.floor(draw / numExamples);
    return { index: this.#order(epoch).indexOf(draw - epoch * numExamples), epoch };
  }

  #order(epoch: number): EpochOrder {
    const known = this.#orders.find((order) => order.epoch === epoch);
    if (known !== undefined) return known;
    const { name, numExamples } = this.#task;
    const names = exampleOrderNames(this.#seed, name, epoch);
    const order = {
      epoch,
      indexOf: createPermutation(names, numExamples),
      placeOf: createInversePermutation(names, numExamples),
    };
    this.#orders.push(order);
    if (this.#orders.length > ORDERS_KEPT) this.#orders.shift();
    return order;
  }
}
