/**
 * Whether the workers at hand may start: a pure decision with the sentence that explains it (as torchft's quorum_compute).
 * The sentence is logged only when it changes.
 */

/** A worker as the rendezvous sees it. `ready` means: engine up, state loaded. */
export interface Candidate {
  readonly workerId: string;
  readonly host: string;
  readonly state: 'joined' | 'ready';
}

export interface RendezvousOptions {
  readonly minWorkers: number;
  readonly maxWorkers: number;
  readonly timeoutMs: number;
}

export type RendezvousDecision =
  | { readonly kind: 'wait' | 'fail'; readonly reason: string }
  | { readonly kind: 'form'; readonly workerIds: readonly string[]; readonly reason: string };

/**
 * Definition: forms when at least `minWorkers` are ready and nobody who joined is still getting ready.
 * Ranks follow the order of worker ids, so the same workers get the same ranks in every run.
 * @param waitedMs time since the rendezvous began
 */
export function decideRendezvous(
  waitedMs: number,
  candidates: readonly Candidate[],
  options: RendezvousOptions,
): RendezvousDecision {
  const { minWorkers, maxWorkers, timeoutMs } = options;
  const ready = candidates.filter(({ state }) => state === 'ready');
  const preparing = candidates.filter(({ state }) => state === 'joined');
  const missing = minWorkers - candidates.length;
  const waitingFor =
    missing > 0
      ? `${candidates.length} of ${minWorkers} workers joined${list(candidates)}: waiting for ${missing} more`
      : `${ready.length} of ${candidates.length} workers ready: waiting for ${names(preparing)} to load`;
  if (ready.length >= minWorkers && preparing.length === 0) {
    const workerIds = ready
      .map(({ workerId }) => workerId)
      .sort()
      .slice(0, maxWorkers);
    return { kind: 'form', workerIds, reason: `${workerIds.length} workers ready, ${minWorkers} needed` };
  }
  if (waitedMs >= timeoutMs) return { kind: 'fail', reason: `after ${Math.round(timeoutMs / 1000)} s ${waitingFor}` };
  return { kind: 'wait', reason: waitingFor };
}

function names(candidates: readonly Candidate[]): string {
  return candidates.map(({ workerId, host }) => `${workerId} on ${host}`).join(', ');
}

function list(candidates: readonly Candidate[]): string {
  return candidates.length === 0 ? '' : ` (${names(candidates)})`;
}
