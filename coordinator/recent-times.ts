/** The last times of something that happens again and again, ms. Bounded; pure but for its window. */
import { median } from '../shared/statistics.ts';

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
