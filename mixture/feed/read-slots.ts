/** Lets a bounded number of asynchronous reads run at the same time; the others wait in the order they came. */
import { throwIfAborted } from '../../shared/abort.ts';

export class ReadSlots {
  #free: number;
  /** Bounded by the callers: each waits for its own read. */
  readonly #waiting: (() => void)[] = [];

  constructor(numSlots: number) {
    this.#free = numSlots;
  }

  /** @throws what `read` throws; ABORTED where the signal has fired before its turn */
  async run<T>(read: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    try {
      throwIfAborted(signal, 'a read that waits for its turn');
      return await read();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
