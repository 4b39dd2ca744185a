/** Signals by which a person or a scheduler ends a process, and what they ask for. */

/**
 * Each of them asks a process to end in order. Left alone, SIGHUP would end it without a save when a terminal closes, and SIGUSR1 would open
 * Node's inspector.
 */
export const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;

export interface StopSignals {
  /** The first request: finish the dealt steps, save, end. Its reason is a string. */
  readonly gentle: AbortSignal;
  /** The second request: end at once. */
  readonly atOnce: AbortSignal;
}

/** Calls `handle` with the reason of the signal, now or when it fires. */
export function onceAborted(signal: AbortSignal, handle: (reason: string) => void): void {
  if (signal.aborted) handle(String(signal.reason));
  else signal.addEventListener('abort', () => handle(String(signal.reason)), { once: true });
}
