/** Where each member of a new generation gets the state from. Pure. */
import type { StateSource } from '../../shared/protocol/messages.ts';

/** A rank copies from so many at most: more links make it no faster, and a thousand would be as many connections for one copy. */
const MAX_SOURCES = 8;

export interface StateSources {
  /** In rank order. */
  readonly sources: readonly StateSource[];
  /** Of each rank, the ranks that copy from it. */
  readonly receivers: readonly (readonly number[])[];
  /** Somebody loads or copies: then all are to prove that they hold the same. */
  readonly proveState: boolean;
}

/**
 * Those who copy share out those who hold the state, in turns, so that all of these send about the same.
 * @param held updates behind the state of each rank, null where it has none that counts
 * @param step updates behind the state that the generation starts from; a state with fewer is as good where `isSame` says so
 * @param checkpoint what ranks load where nobody holds the state; null: `init`, else the seed
 */
export function planStateSources(
  held: readonly (number | null)[],
  isSame: (heldStep: number) => boolean,
  checkpoint: string | null,
): StateSources {
  const isHolder = held.map((step) => step !== null && isSame(step));
  const holders = held.flatMap((_, rank) => (isHolder[rank] === true ? [rank] : []));
  const receivers = held.map((): number[] => []);
  if (holders.length === 0)
    return { sources: held.map(() => ({ kind: 'start', checkpoint })), receivers, proveState: true };
  const numEach = Math.min(MAX_SOURCES, holders.length);
  let turn = 0;
  const sources = held.map((step, rank): StateSource => {
    if (isHolder[rank] === true) return { kind: 'held', step: step! };
    const ranks = Array.from({ length: numEach }, () => holders[turn++ % holders.length]!).sort((a, b) => a - b);
    for (const holder of ranks) receivers[holder]!.push(rank);
    return { kind: 'peers', ranks };
  });
  return { sources, receivers, proveState: holders.length < held.length };
}
