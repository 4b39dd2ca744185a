/**
 * Decides whether the present workers may form a generation. Pure: returns the decision and the sentence that explains it (as torchft's
 * quorum_compute). The sentence is logged when it changes.
 */

import { listNames } from '../../shared/list-names.ts';

/** A worker, as far as the rendezvous is concerned. `ready`: its engine is up, and it works in no generation. */
export interface Candidate {
  readonly workerId: string;
  readonly host: string;
  readonly state: 'joined' | 'ready';
  /** It holds the committed state, or a later one. */
  readonly isHolder: boolean;
}

export interface RendezvousOptions {
  /** Workers that must be ready. */
  readonly needed: number;
  /** No worker has trained yet: wait for those that are getting ready. */
  readonly isStart: boolean;
  /** The committed state is in no checkpoint: without a worker that holds it the run must go back. */
  readonly needsHolder: boolean;
  /** Workers that may come back, and the longest wait for them. */
  readonly awaited: readonly string[];
  readonly awaitMs: number;
  readonly timeoutMs: number;
}

export interface RendezvousDecision {
  /** `rewind`: no worker holds the committed state. */
  readonly kind: 'wait' | 'fail' | 'form' | 'rewind';
  readonly reason: string;
}

/** @param waitedMs time since the rendezvous began */
export function decideRendezvous(
  waitedMs: number,
  candidates: readonly Candidate[],
  options: RendezvousOptions,
): RendezvousDecision {
  const { needed, isStart, needsHolder, awaited, awaitMs, timeoutMs } = options;
  const ready = candidates.filter(({ state }) => state === 'ready');
  const preparing = candidates.filter(({ state }) => state === 'joined');
  const isReady = new Set(ready.map(({ workerId }) => workerId));
  const absent = awaited.filter((id) => !isReady.has(id));
  const wait = (reason: string): RendezvousDecision =>
    waitedMs >= timeoutMs
      ? { kind: 'fail', reason: `after ${Math.round(timeoutMs / 1000)} s ${reason}` }
      : { kind: 'wait', reason };

  const missing = needed - candidates.length;
  if (missing > 0)
    return wait(`${candidates.length} of ${needed} workers joined${list(candidates)}: waiting for ${missing} more`);
  if (absent.length > 0 && waitedMs < awaitMs)
    return wait(`${ready.length} workers ready: waiting for ${listNames(absent)} to come back`);
  if (ready.length < needed || (isStart && preparing.length > 0))
    return wait(`${ready.length} of ${candidates.length} workers ready: waiting for ${names(preparing)} to load`);
  if (needsHolder && !ready.some(({ isHolder }) => isHolder))
    return { kind: 'rewind', reason: `none of ${ready.length} ready workers holds the state of the last step` };
  return { kind: 'form', reason: `${ready.length} workers ready, ${needed} needed` };
}

function names(candidates: readonly Candidate[]): string {
  return listNames(candidates.map(({ workerId, host }) => `${workerId} on ${host}`));
}

function list(candidates: readonly Candidate[]): string {
  return candidates.length === 0 ? '' : ` (${names(candidates)})`;
}
