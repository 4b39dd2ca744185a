/**
 * For how long workers are left out after link trouble, and which are on trial. Pure, apart from its records.
 *
 * A worker whose pause is over proves its links beside the run first (link-trials.ts).
 *
 * Rule: the first pause of a worker is FIRST_PAUSE_MS; each further one is twice as long, at most LONGEST_PAUSE_MS. A worker is on
 * trial until it has been in formed generations for as long as its last pause; then its record is forgotten. While it is on
 * trial, the first generation that breaks on its links leaves it out again: training does not stand still for three tries each time.
 */

/** After the first link trouble, ms. */
const FIRST_PAUSE_MS = 30_000;
/** Bound of the pauses, ms. */
const LONGEST_PAUSE_MS = 3_600_000;

interface Pause {
  readonly pauseMs: number;
  /** Clock time of its end. */
  readonly untilMs: number;
  /** Clock time of the first generation that was formed with the worker afterwards; undefined until then. */
  readonly formedMs: number | undefined;
}

export class LinkPauses {
  readonly #pauses = new Map<string, Pause>();

  /** @returns how long the worker is left out, ms */
  begin(workerId: string, nowMs: number): number {
    const last = this.isOnTrial(workerId, nowMs) ? this.#pauses.get(workerId) : undefined;
    const pauseMs = last === undefined ? FIRST_PAUSE_MS : Math.min(2 * last.pauseMs, LONGEST_PAUSE_MS);
    this.#pauses.set(workerId, { pauseMs, untilMs: nowMs + pauseMs, formedMs: undefined });
    return pauseMs;
  }

  isLeftOut(workerId: string, nowMs: number): boolean {
    return nowMs < (this.#pauses.get(workerId)?.untilMs ?? -Infinity);
  }

  /** A generation was formed with the worker. */
  formed(workerId: string, nowMs: number): void {
    const pause = this.#pauses.get(workerId);
    if (pause !== undefined) this.#pauses.set(workerId, { ...pause, formedMs: pause.formedMs ?? nowMs });
  }

  isOnTrial(workerId: string, nowMs: number): boolean {
    const pause = this.#pauses.get(workerId);
    return pause !== undefined && (pause.formedMs === undefined || nowMs - pause.formedMs < pause.pauseMs);
  }
}
