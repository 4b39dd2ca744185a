/** Aborting and deadlines: every wait of exmix ends by its work, by its signal, or by its deadline. */
import type { Clock } from './clock.ts';
import { TrainerError } from './errors.ts';

/** ABORTED, with the signal's reason as cause. @param doing the work that ends, e.g. `reading a.txt` */
export function abortedError(doing: string, signal?: AbortSignal): TrainerError {
  return new TrainerError('ABORTED', `${doing} was aborted`, { cause: signal?.reason });
}

/** @throws ABORTED if the signal has fired */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted === true) throw abortedError(doing, signal);
}

/** The outcome of the work, or ABORTED if the signal fires first. The work itself continues. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal, doing: string): Promise<T> {
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortedError(doing, signal));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
  }
}

export interface Deadline {
  readonly clock: Clock;
  readonly ms: number;
  /** Makes the error of work that is not done after `ms`. */
  readonly onLate: () => TrainerError;
  /** Ends the work before its deadline. */
  readonly signal?: AbortSignal | undefined;
  /** The work, for the message of ABORTED. */
  readonly doing: string;
}

/**
 * The outcome of the work, or the error of the deadline or of the signal, whichever comes first.
 * @param work its signal fires when nobody waits for the outcome any more: after the deadline, the signal, or the outcome itself
 * @throws what the work throws, what `onLate` returns, ABORTED
 */
export async function withDeadline<T>(work: (signal: AbortSignal) => Promise<T>, deadline: Deadline): Promise<T> {
  const { clock, ms, onLate, signal, doing } = deadline;
  throwIfAborted(signal, doing);
  const over = new AbortController();
  const onAbort = (): void => over.abort(abortedError(doing, signal));
  signal?.addEventListener('abort', onAbort, { once: true });
  const late = clock.sleep(ms, over.signal).then(
    () => {
      throw onLate();
    },
    () => {
      throw over.signal.reason; // aborted; after the outcome nobody waits for it
    },
  );
  late.catch(() => undefined); // `work` may throw before the race begins
  try {
    return await Promise.race([work(over.signal), late]);
  } catch (error) {
    over.abort(error);
    throw error;
  } finally {
    over.abort(abortedError(doing));
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Waits for the work, at most `ms`; ignores its failure. @returns whether the work has ended */
export async function waitAtMost(work: Promise<unknown>, ms: number, clock: Clock): Promise<boolean> {
  const over = new AbortController();
  const late = clock.sleep(ms, over.signal).then(
    () => false,
    () => false,
  );
  const done = work.then(
    () => true,
    () => true,
  );
  try {
    return await Promise.race([done, late]);
  } finally {
    over.abort();
  }
}
