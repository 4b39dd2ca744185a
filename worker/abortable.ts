/** Waiting for what has no signal of its own, until a signal fires. */
import { TrainerError } from '../shared/errors.ts';

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
