/**
 * What an example of a task is: rows made up for this purpose in the schema of the real source, and the text they must become.
 * `exmix tasks show` prints the first; tests hold every task to all of them.
 */
import type { SourceFields } from '../../task.ts';
import type { Columns } from '../column-type.ts';

export interface MadeUpRows {
  /** Columns of the source that the rule does not read. */
  readonly otherColumns?: Columns;
  /** Fuller types of columns that the rule reads a part of. */
  readonly fullColumns?: Columns;
  readonly rows: readonly SourceFields[];
  /** Of all rows, in order: [inputs, targets]. */
  readonly expected: readonly (readonly [inputs: string, targets: string])[];
}

/** Task name → its rows. */
export type Examples = Readonly<Record<string, MadeUpRows>>;
