/** How an epoch ends, and where the run goes on where nobody holds the state of its last step any more. Pure. */
import type { TrainerError } from '../shared/errors.ts';
import type { RunSummaryView } from './run-summary.ts';

/** The run must be opened again, at an earlier step that somebody holds, or from its newest checkpoint. */
export interface Rewind {
  readonly kind: 'rewind';
  readonly reason: string;
  /** Left out: from the checkpoint. */
  readonly heldStep?: number;
  /** Ranks differed, and no state is left that can be trusted. */
  readonly divergence?: TrainerError;
}

export type EpochEnding = { readonly kind: 'ended'; readonly summary: RunSummaryView } | Rewind;

export interface RewindState {
  /** Updates behind the states that ready workers hold. */
  readonly held: readonly (number | null)[];
  /** Of the newest checkpoint; 0: the seed. */
  readonly loadableStep: number;
  readonly divergence: TrainerError | undefined;
}

/** To the furthest step that somebody holds, where that is further than the newest checkpoint. */
export function planRewind(reason: string, { held, loadableStep, divergence }: RewindState): Rewind {
  // The held states are of no use then: they may be what is wrong, or have followed from it.
  if (divergence !== undefined) return { kind: 'rewind', reason: `${reason}: ${divergence.message}`, divergence };
  const heldStep = Math.max(-1, ...held.map((step) => step ?? -1));
  return { kind: 'rewind', reason, ...(heldStep > loadableStep ? { heldStep } : {}) };
}
