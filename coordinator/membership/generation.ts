/** TODO header. */
import type { LaneRun } from '../../shared/lane-tree.ts';
import type { WorkerHandle } from './worker-handle.ts';
import type { TrainerError } from '../../shared/errors.ts';

export interface Generation {
  readonly epoch: number;
  readonly generation: number;
  /** In rank order. */
  readonly members: readonly WorkerHandle[];
  /** Lanes of each rank. */
  readonly runs: readonly LaneRun[];
}

/** Who was in a generation: what its reports are counted by. */
export interface PastGeneration {
  readonly epoch: number;
  readonly generation: number;
  /** Worker ids in rank order. */
  readonly members: readonly string[];
}

export function pastOf({ epoch, generation, members }: Generation): PastGeneration {
  return { epoch, generation, members: members.map(({ workerId }) => workerId) };
}

export interface LinkFailure {
  readonly workerId: string;
  /** Ids of the members at the other end. */
  readonly peers: readonly string[];
}

// FOLDED generation.ts
/** How a generation can end. */

export type GenerationEnding =
  /** The last step is committed and saved. */
  | { readonly kind: 'done' }
  /** No step is open, and somebody waits to join. */
  | { readonly kind: 'boundary'; readonly reason: string }
  | BrokenGeneration;

/** It cannot go on. */
export interface BrokenGeneration {
  readonly kind: 'broken';
  readonly error: TrainerError;
  /** Whose failure it is, where that is known. */
  readonly culprits?: readonly WorkerHandle[];
  /** Where links between members that live are broken: who says so. */
  readonly links?: readonly LinkFailure[];
  /** Where members should hold the same and do not: who is wrong; none where nobody can tell. */
  readonly outliers?: readonly WorkerHandle[];
}
