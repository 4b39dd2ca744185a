/**
 * Which draw of its task an example was, and back: draw number c of a task is example π(seed, task, ⌊c/n⌋)(c mod n)
 * (mixture/plan/planner.ts). An example that was drawn twice has one draw number, so twice the same number is twice the same example.
 */
import { createInversePermutation, createPermutation, exampleOrderNames } from '../../mixture/plan/permutation.ts';

/** A task as far as its order goes. */
export interface DrawTask {
  readonly name: string;
  readonly numExamples: number;
}

interface EpochOrder {
  readonly epoch: number;
  readonly indexOf: (k: number) => number;
  readonly placeOf: (index: number) => number;
}

/** Orders kept of each task: the epoch that ends and the one that begins. */
const ORDERS_KEPT = 2;

export class DrawNumbers {
  readonly #seed: number;
  readonly #tasks: readonly DrawTask[];
  readonly #orders: EpochOrder[][];

  constructor(seed: number, tasks: readonly DrawTask[]) {
    this.#seed = seed;
    this.#tasks = tasks;
    this.#orders = tasks.map(() => []);
  }

  /** @returns undefined where the task has no such example */
  drawOf(task: number, index: number, epoch: number): number | undefined {
    const facts = this.#tasks[task];
    if (facts === undefined || index >= facts.numExamples) return undefined;
    return epoch * facts.numExamples + this.#order(task, epoch).placeOf(index);
  }

  exampleOf(task: number, draw: number): { readonly index: number; readonly epoch: number } {
    const { numExamples } = this.#tasks[task]!;
    const epoch = Math.floor(draw / numExamples);
    return { index: this.#order(task, epoch).indexOf(draw - epoch * numExamples), epoch };
  }

  #order(task: number, epoch: number): EpochOrder {
    const kept = this.#orders[task]!;
    const known = kept.find((order) => order.epoch === epoch);
    if (known !== undefined) return known;
    const { name, numExamples } = this.#tasks[task]!;
    const names = exampleOrderNames(this.#seed, name, epoch);
    const order = {
      epoch,
      indexOf: createPermutation(names, numExamples),
      placeOf: createInversePermutation(names, numExamples),
    };
    kept.push(order);
    if (kept.length > ORDERS_KEPT) kept.shift();
    return order;
  }
}
