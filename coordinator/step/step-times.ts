/** Speed of a run and the time it still needs, from the times of its last steps. Pure but for its window of samples. */

import { median } from '../../shared/statistics.ts';

export class Progress {
  /** From commit to commit. */
  readonly stepTimes = new RecentTimes();
  #lastMs: number;

  /** @param nowMs when training begins */
  constructor(nowMs: number) {
    this.#lastMs = nowMs;
  }

  /** A step was committed. @returns wall time since the one before, ms */
  commit(nowMs: number): number {
    const durationMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.stepTimes.add(durationMs);
    return durationMs;
  }

  /** Seconds that `steps` more steps take at the median of the last ones; 0 before the first. */
  etaSeconds(steps: number): number {
    return this.stepTimes.count === 0 ? 0 : (steps * this.stepTimes.medianMs) / 1000;
  }
}

// FOLDED step-times.ts
/** The last times of something that happens again and again, ms. Bounded; pure but for its window. */

const WINDOW = 20;

export class RecentTimes {
  readonly #ms: number[] = [];

  add(ms: number): void {
    this.#ms.push(ms);
    if (this.#ms.length > WINDOW) this.#ms.shift();
  }

  /** How many there are, up to the window. */
  get count(): number {
    return this.#ms.length;
  }

  /** NaN of none. */
  get medianMs(): number {
    return median(this.#ms);
  }
}
