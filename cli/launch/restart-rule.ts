/**
 * Decides whether an ended local worker is restarted, with the reason. Pure.
 *
 * Definition: it is restarted after `firstPauseMs`·2^n, at most `longestPauseMs`, where n counts the restarts since the last progress.
 * Progress is a committed step since its last start. After `limit` restarts without progress it is not restarted (`give-up`).
 * Assumption: wrong usage and bad data stay after a restart; any other failure (a signal, a lost socket) may be transient.
 */
import { EXIT_DATA, EXIT_USAGE } from '../exit-codes.ts';

/** How a worker ended. */
export type WorkerEnd =
  | { readonly kind: 'exited'; readonly status: number }
  | { readonly kind: 'killed'; readonly signal: string }
  /** An adopted process ended: the system reports the exit status only to the parent. */
  | { readonly kind: 'vanished' }
  | { readonly kind: 'not-started'; readonly reason: string };

export interface RestartOptions {
  /** Restarts without progress; 0: never restart. */
  readonly limit: number;
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
}

export interface EndedWorker {
  readonly end: WorkerEnd;
  /** Its restarts from the last progress to its last start. */
  readonly numRestarts: number;
  /** A step was committed since its last start. */
  readonly hasProgressed: boolean;
  readonly isStopping: boolean;
  /** The coordinator has dismissed it. */
  readonly isDismissed: boolean;
}

/** `reason` completes the sentence "worker local-0 (pid 7) …". */
export type RestartDecision =
  { readonly kind: 'leave'; readonly reason: string } | { readonly kind: 'give-up'; readonly reason: string } | Restart;

export interface Restart {
  readonly kind: 'restart';
  readonly afterMs: number;
  /** 1 for the first since the last progress. */
  readonly attempt: number;
  readonly reason: string;
}

export function decideRestart(worker: EndedWorker, options: RestartOptions): RestartDecision {
  const { end, hasProgressed, isStopping, isDismissed } = worker;
  const numRestarts = hasProgressed ? 0 : worker.numRestarts;
  const { limit, firstPauseMs, longestPauseMs } = options;
  const ended = describeEnd(end);
  if (isStopping) return { kind: 'leave', reason: `${ended} while the workers are stopped` };
  if (isDismissed) return { kind: 'leave', reason: `${ended} after it was dismissed` };
  if (end.kind === 'exited') {
    if (end.status === 0) return { kind: 'leave', reason: `${ended}: the run is over for it` };
    const lasting = LASTING.get(end.status);
    if (lasting !== undefined)
      return { kind: 'give-up', reason: `${ended} (${lasting}), which would be the same after a restart` };
  }
  if (numRestarts >= limit) {
    const restarts = numRestarts === 1 ? '1 restart' : `${numRestarts} restarts`;
    return { kind: 'give-up', reason: limit === 0 ? ended : `${ended}, after ${restarts} without a committed step` };
  }
  const attempt = numRestarts + 1;
  const afterMs = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(numRestarts, MAX_DOUBLINGS));
  const count = `restart ${attempt} of at most ${limit} without a committed step`;
  return { kind: 'restart', afterMs, attempt, reason: `${ended}; ${count}, in ${afterMs} ms` };
}

/** Keeps 2^n finite: twelve days for a first pause of 1 ms. */
const MAX_DOUBLINGS = 30;

/** Exit statuses of failures that a restart does not change. */
const LASTING: ReadonlyMap<number, string> = new Map([
  [EXIT_USAGE, 'usage or config'],
  [EXIT_DATA, 'data'],
]);

function describeEnd(end: WorkerEnd): string {
  switch (end.kind) {
    case 'exited':
      return `ended with status ${end.status}`;
    case 'killed':
      return `ended with ${end.signal}`;
    case 'vanished':
      return 'ended with unknown status (an adopted process)';
    case 'not-started':
      return `could not be started: ${end.reason}`;
  }
}
