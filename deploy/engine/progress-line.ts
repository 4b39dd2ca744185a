/** Prints permanent lines and one progress line, which is rewritten in place on a terminal and printed now and then elsewhere. */

const CLEAR_LINE = '\r\u001b[2K';
/** Without a terminal, the shortest time between two progress lines. */
const PLAIN_EVERY_MS = 10_000;

export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

export class ProgressLine {
  readonly #output: ProgressOutput;
  readonly #nowMs: () => number;
  readonly #startMs: number;
  #shown = false;
  #printedMs: number;

  /** @param nowMs a monotonic clock, ms */
  constructor(output: ProgressOutput, nowMs: () => number) {
    this.#output = output;
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
    this.#printedMs = this.#startMs;
  }

  /** Prints a permanent line. */
  line(text: string): void {
    this.end();
    this.#output.write(`${text}\n`);
  }

  /** Shows the current step, with the seconds since the start. */
  progress(text: string): void {
    const nowMs = this.#nowMs();
    const timed = `${text} · ${Math.round((nowMs - this.#startMs) / 1000)} s`;
    if (this.#output.isTTY === true) {
      this.#output.write(CLEAR_LINE + timed.slice(0, (this.#output.columns ?? 80) - 1));
      this.#shown = true;
    } else if (nowMs - this.#printedMs >= PLAIN_EVERY_MS) {
      this.#printedMs = nowMs;
      this.#output.write(`${timed}\n`);
    }
  }

  /** Erases the progress line. */
  end(): void {
    if (this.#shown) this.#output.write(CLEAR_LINE);
    this.#shown = false;
  }
}
