/** Lines and one line of progress: rewritten in place on a terminal, and elsewhere told now and then. */

const CLEAR_LINE = '\r\u001b[2K';
/** Where nobody watches: a line of progress at most this often. */
const PLAIN_EVERY_MS = 10_000;

export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export class ProgressLine {
  readonly #output: ProgressOutput;
  readonly #nowMs: () => number;
  readonly #startMs: number;
  #shown = false;
  #toldMs: number;

  /** @param nowMs a clock that only goes forward, ms */
  constructor(output: ProgressOutput, nowMs: () => number) {
    this.#output = output;
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
    this.#toldMs = this.#startMs;
  }

  /** A line that stays. */
  line(text: string): void {
    this.end();
    this.#output.write(`${text}\n`);
  }

  /** What is done now, with the seconds since the start. */
  progress(text: string): void {
    const nowMs = this.#nowMs();
    const timed = `${text} · ${Math.round((nowMs - this.#startMs) / 1000)} s`;
    if (this.#output.isTTY === true) {
      this.#output.write(CLEAR_LINE + timed.slice(0, (this.#output.columns ?? 80) - 1));
      this.#shown = true;
    } else if (nowMs - this.#toldMs >= PLAIN_EVERY_MS) {
      this.#toldMs = nowMs;
      this.#output.write(`${timed}\n`);
    }
  }

  /** Takes the progress away. */
  end(): void {
    if (this.#shown) this.#output.write(CLEAR_LINE);
    this.#shown = false;
  }
}
