/** How a generation can end. */
import type { TrainerError } from '../shared/errors.ts';
import type { LinkFailure } from './broken-links.ts';
import type { WorkerHandle } from './worker-handle.ts';

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
