/**
 * Pings of one connection, numbered from 0: at most MAX_PINGS without an answer, each with a deadline and a signal.
 * A ping whose deadline is over still counts: its frame may still wait to be sent.
 */
import { withDeadline } from '../abort.ts';
import type { Clock } from '../clock.ts';
import { TrainerError } from '../errors.ts';
import { MAX_PINGS } from './transport.ts';

export interface PingsInit {
  readonly peer: string;
  readonly clock: Clock;
  /** Sends a ping frame that carries the number. */
  readonly send: (number: number) => void;
}

interface Ping {
  readonly number: number;
  readonly settle: (error: TrainerError | null) => void;
}

export class Pings {
  readonly #init: PingsInit;
  #unanswered: Ping[] = [];
  #numSent = 0;

  constructor(init: PingsInit) {
    this.#init = init;
  }

  /** Round trip, ms. @throws SEND_OVERFLOW, CONNECT_FAILED after the deadline, ABORTED, the error of `end` */
  async send(timeoutMs: number, signal: AbortSignal | undefined): Promise<number> {
    const { peer, clock, send } = this.#init;
    if (this.#unanswered.length >= MAX_PINGS)
      throw new TrainerError('SEND_OVERFLOW', `connection to ${peer}: ${MAX_PINGS} pings have no answer yet`);
    const startMs = clock.monotonicMs();
    const answered = (): Promise<void> =>
      new Promise((resolve, reject) => {
        const number = this.#numSent++;
        const settle: Ping['settle'] = (error) => (error === null ? resolve() : reject(error));
        this.#unanswered.push({ number, settle });
        send(number);
      });
    const onLate = (): TrainerError =>
      new TrainerError('CONNECT_FAILED', `${peer} did not answer a ping within ${timeoutMs} ms`);
    await withDeadline(answered, { clock, ms: timeoutMs, signal, onLate, doing: `a ping to ${peer}` });
    return clock.monotonicMs() - startMs;
  }

  /** The peer has answered this ping, and with it all earlier ones: RFC 6455 lets it answer the latest ping only. */
  answered(number: number): void {
    for (const ping of this.#unanswered) if (ping.number <= number) ping.settle(null);
    this.#unanswered = this.#unanswered.filter((ping) => ping.number > number);
  }

  /** The connection is over: no answer can come. */
  end(error: TrainerError): void {
    for (const { settle } of this.#unanswered) settle(error);
    this.#unanswered = [];
  }
}
