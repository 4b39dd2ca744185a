/** TODO header. */
import { TrainerError } from './errors.ts';

/** @throws ABORTED where the signal has fired; `doing` says what was called off */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted === true) throw new TrainerError('ABORTED', `${doing} was called off`, { cause: signal.reason });
}

// FOLDED abortable.ts
/** Waiting for what has no signal of its own, until a signal fires. */

/** The promise's outcome, or ABORTED when the signal fires first; the work itself goes on. @param doing for the message */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal, doing: string): Promise<T> {
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new TrainerError('ABORTED', `${doing} was called off`, { cause: signal.reason }));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
  }
}
