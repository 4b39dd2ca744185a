/** The tick of the coordinator: how often it polls deadlines, and whether its own process stood still between two polls. */

/** Longest pause between two polls of a deadline, ms. */
export const TICK_MS = 200;
/** A poll that comes this much late shows that this process itself stood still, ms. */
const OWN_PAUSE_MS = 1_000;

export class PauseDetector {
  #polledMs: number;

  constructor(nowMs: number) {
    this.#polledMs = nowMs;
  }

  /** Call it every TICK_MS. @returns whether this process stood still since the last call: then no worker is late */
  hasPaused(nowMs: number): boolean {
    const hasPaused = nowMs - this.#polledMs > TICK_MS + OWN_PAUSE_MS;
    this.#polledMs = nowMs;
    return hasPaused;
  }
}
