/** Speed of a run and the time it still needs, from the times of its last steps. Pure but for its window of samples. */

const WINDOW_STEPS = 20;

export class Progress {
  readonly #durationsMs: number[] = [];
  #lastMs: number;

  /** @param nowMs when training begins */
  constructor(nowMs: number) {
    this.#lastMs = nowMs;
  }

  /** A step was committed. @returns wall time since the one before, ms */
  commit(nowMs: number): number {
    const durationMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.#durationsMs.push(durationMs);
    if (this.#durationsMs.length > WINDOW_STEPS) this.#durationsMs.shift();
    return durationMs;
  }

  /** Seconds that `steps` more steps take at the median of the last ones; 0 before the first. */
  etaSeconds(steps: number): number {
    if (this.#durationsMs.length === 0) return 0;
    const sorted = [...this.#durationsMs].sort((a, b) => a - b);
    return (steps * sorted[sorted.length >> 1]!) / 1000;
  }
}
