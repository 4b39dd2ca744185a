/**
 * What is dealt and not committed: a generation that ends gives none of it back, and the next one is dealt the same rows. Bounded by
 * the steps dealt ahead, and by how far a report may be late (step-settlement.ts).
 */
import type { StepDeal, StepDealer } from './step-dealer.ts';

export class DealtSteps {
  readonly #dealer: Pick<StepDealer, 'deal' | 'step'>;
  readonly #deals = new Map<number, StepDeal>();

  constructor(dealer: Pick<StepDealer, 'deal' | 'step'>) {
    this.#dealer = dealer;
  }

  /** The deal of a step that is not committed; made, with those before it, where it is still to come. */
  async get(step: number): Promise<StepDeal> {
    while (this.#dealer.step < step) {
      const deal = await this.#dealer.deal();
      this.#deals.set(deal.step, deal);
    }
    return this.of(step)!;
  }

  /** The deal of a step; undefined where it is committed, or still to come. */
  of(step: number): StepDeal | undefined {
    return this.#deals.get(step);
  }

  /** In their order. */
  all(): readonly StepDeal[] {
    return [...this.#deals.values()];
  }

  /** It is committed: nobody needs its rows any more. */
  drop(step: number): void {
    this.#deals.delete(step);
  }
}
