/** Where each member of a new generation gets the state from. Pure. */
import type { StateSource } from '../shared/protocol/messages.ts';

export interface StateSources {
  /** In rank order. */
  readonly sources: readonly StateSource[];
  /** Of each rank, the ranks that copy from it. */
  readonly receivers: readonly (readonly number[])[];
  /** Somebody loads or copies: then all are to prove that they hold the same. */
  readonly proveState: boolean;
}

/**
 * @param held updates behind the state of each rank, null where it has none that counts
 * @param step updates behind the state that the generation starts from; a state with fewer is as good where `isSame` says so
 * @param checkpoint what ranks load where nobody holds the state; null: the seed
 */
export function planStateSources(
  held: readonly (number | null)[],
  isSame: (heldStep: number) => boolean,
  checkpoint: string | null,
): StateSources {
  const holders = held.flatMap((step, rank) => (step !== null && isSame(step) ? [rank] : []));
  if (holders.length === 0)
    return {
      sources: held.map(() => ({ kind: 'start', checkpoint })),
      receivers: held.map(() => []),
      proveState: true,
    };
  const receivers = held.flatMap((_, rank) => (holders.includes(rank) ? [] : [rank]));
  return {
    sources: held.map((step, rank) =>
      holders.includes(rank) ? { kind: 'held', step: step! } : { kind: 'peers', ranks: holders },
    ),
    receivers: held.map((_, rank) => (holders.includes(rank) ? receivers : [])),
    proveState: receivers.length > 0,
  };
}
