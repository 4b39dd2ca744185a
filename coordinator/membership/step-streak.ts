/** Counts failures in a row in one step. A failure that follows from chance does not come back; one with a cause does. */

/** After this many failures in a row the coordinator stops trying again. */
export const MAX_IN_A_ROW = 3;

export class StepStreak {
  #step = -1;
  #count = 0;

  /** One more failure; in another step the count starts anew. @returns failures in a row in this step */
  add(step: number): number {
    this.#count = step === this.#step ? this.#count + 1 : 1;
    this.#step = step;
    return this.#count;
  }
}
