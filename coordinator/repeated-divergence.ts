/**
 * Ranks that differ until no state is left that can be trusted, again and again: their step is done anew from an earlier state, but not
 * without end.
 * Pure but for its count.
 */
import { TrainerError } from '../shared/errors.ts';

/** So often in a row in the same step. */
const MOST_IN_A_ROW = 3;

export class RepeatedDivergence {
  #step = -1;
  #count = 0;

  /** @param step the furthest that was ever committed @returns the error that ends the run, where it is to end */
  add(step: number, error: TrainerError): TrainerError | undefined {
    this.#count = step === this.#step ? this.#count + 1 : 1;
    this.#step = step;
    if (this.#count < MOST_IN_A_ROW) return undefined;
    const message = `${this.#count} times in a row ranks differed and no state was left that can be trusted; the last time: ${error.message}`;
    return new TrainerError(error.code, message, { cause: error });
  }
}
