/**
 * The nouns of membership. A generation is one fixed set of members with ranks and lanes; it trains until a member is lost, joins, or
 * lanes move, and the next one follows (docs/decisions/0013).
 */
import type { TrainerError } from '../../shared/errors.ts';
import type { LaneRun } from '../../shared/lane-tree.ts';
import type { WorkerHandle } from './worker-handle.ts';

export interface Generation {
  readonly epoch: number;
  readonly generation: number;
  /** In rank order. */
  readonly members: readonly WorkerHandle[];
  /** Lanes of each rank. */
  readonly runs: readonly LaneRun[];
  /** The same on all members. */
  readonly engineFingerprint: string;
}

/** A generation by the ids of its members: enough to attribute reports to ranks after its sockets are gone. */
export interface PastGeneration {
  readonly epoch: number;
  readonly generation: number;
  /** Worker ids in rank order. */
  readonly members: readonly string[];
}

export function pastOf({ epoch, generation, members }: Generation): PastGeneration {
  return { epoch, generation, members: members.map(({ workerId }) => workerId) };
}

export type GenerationEnding =
  /** The last step is committed and saved. */
  | { readonly kind: 'done' }
  /** No step is open, and the members or their lanes are to change. */
  | { readonly kind: 'boundary'; readonly reason: string }
  | BrokenGeneration;

/** The generation cannot continue. */
export interface BrokenGeneration {
  readonly kind: 'broken';
  readonly error: TrainerError;
  readonly cause: BreakCause;
}

export type BreakCause =
  /** These members failed, were lost, hang or are late. */
  | { readonly kind: 'members'; readonly culprits: readonly WorkerHandle[] }
  /** Links between members that are alive are broken, as the members reported them. */
  | { readonly kind: 'links'; readonly failures: readonly LinkFailure[] }
  /** Parameters or gradients of these members differ from those of a majority. */
  | { readonly kind: 'outliers'; readonly outliers: readonly WorkerHandle[] }
  /** Parameters or gradients differ, and no majority tells which are wrong. */
  | { readonly kind: 'undecided' }
  /** The gradient is not finite on all members: no member is to blame. */
  | { readonly kind: 'not-finite' };

/** A member reports that it lost, or could not make, links. */
export interface LinkFailure {
  readonly workerId: string;
  /** Ids of the members at the other end. */
  readonly peers: readonly string[];
}
