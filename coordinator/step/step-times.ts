/** Times of the last steps: the speed of a run, and the time it still needs. Pure, except for the window of samples. */
import { median } from '../../shared/statistics.ts';

/** Bound of a window, samples. */
const WINDOW = 20;

export class RecentTimes {
  readonly #ms: number[] = [];

  add(ms: number): void {
    this.#ms.push(ms);
    if (this.#ms.length > WINDOW) this.#ms.shift();
  }

  /** Number of samples, up to the window. */
  get count(): number {
    return this.#ms.length;
  }

  /** NaN without samples. */
  get medianMs(): number {
    return median(this.#ms);
  }
}

/** Times from commit to commit. */
export class Progress {
  readonly stepTimes = new RecentTimes();
  #lastMs: number;

  /** @param nowMs when training begins */
  constructor(nowMs: number) {
    this.#lastMs = nowMs;
  }

  /** A step was committed. @returns wall time since the commit before, ms */
  commit(nowMs: number): number {
    const durationMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.stepTimes.add(durationMs);
    return durationMs;
  }

  /** Training goes on after a pause that belongs to no step. */
  resume(nowMs: number): void {
    this.#lastMs = nowMs;
  }

  /** Seconds that `steps` more steps take at the median time; 0 before the first step. */
  etaSeconds(steps: number): number {
    return this.stepTimes.count === 0 ? 0 : (steps * this.stepTimes.medianMs) / 1000;
  }
}
