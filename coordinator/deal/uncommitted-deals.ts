/**
 * The deals of steps that are not committed yet. When a generation ends, the next one gets the same deals.
 * Bound: `cluster.plansAhead` steps, for the dealer and for late reports alike (training.ts, step-settlement.ts).
 */
import type { Deal, StepDealer } from './step-dealer.ts';

export class UncommittedDeals {
  readonly #dealer: Pick<StepDealer, 'deal' | 'step'>;
  readonly #deals = new Map<number, Deal>();

  constructor(dealer: Pick<StepDealer, 'deal' | 'step'>) {
    this.#dealer = dealer;
  }

  /** The last step dealt, or the step that training starts from. */
  get lastStep(): number {
    return this.#dealer.step;
  }

  /** The deal of an uncommitted step. Deals it, and those before it, where they are not dealt yet. */
  async dealUpTo(step: number): Promise<Deal> {
    while (this.#dealer.step < step) {
      const deal = await this.#dealer.deal();
      this.#deals.set(deal.step, deal);
    }
    return this.find(step)!;
  }

  /** The deal of a step; undefined where it is committed or not dealt yet. */
  find(step: number): Deal | undefined {
    return this.#deals.get(step);
  }

  /** In the order of their steps. */
  all(): readonly Deal[] {
    return [...this.#deals.values()];
  }

  /** Call it when the step is committed. */
  remove(step: number): void {
    this.#deals.delete(step);
  }
}
