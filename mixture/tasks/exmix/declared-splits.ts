/**
 * The evaluation splits of a row of the table, as data.
 *
 * Definition: confidence is `high` if the splits stand in the metadata of datasets 2.0.0, or the files in the publisher's repository or scripts.
 * It is `low` if their names are from memory. Nothing was tried against the real hub.
 */
import type { RowFilter } from './rule.ts';

export type DeclaredSet =
  /** Another split of the task's set on the hub. @param files replace the file names of the train split */
  | { readonly kind: 'split'; readonly name: string; readonly files?: readonly string[]; readonly keep?: 'all' }
  /** A file to bring beside the train file. */
  | { readonly kind: 'given'; readonly name: string; readonly how: string }
  /** Other rows of the train file. */
  | { readonly kind: 'rows'; readonly name: string; readonly keep: RowFilter }
  /** A part of train, because there is no such set. */
  | { readonly kind: 'cut'; readonly name: string };

export interface DeclaredSplits {
  readonly validation: readonly DeclaredSet[];
  readonly test: readonly DeclaredSet[];
  readonly confidence: 'high' | 'low';
}

/** Splits of the set on the hub, by their names there. */
export function hubSplits(validation: readonly string[], test: readonly string[] = []): DeclaredSplits {
  const named = (name: string): DeclaredSet => ({ kind: 'split', name });
  return { validation: validation.map(named), test: test.map(named), confidence: 'high' };
}

/** The set on the hub has no validation split. */
export function testOnly(test: readonly string[]): DeclaredSplits {
  return { ...hubSplits([], test), validation: [{ kind: 'cut', name: 'validation' }] };
}

/** Files to bring, made as the train file is. A set that is left out: validation is a cut of train, test does not exist. */
export function givenSplits(
  confidence: DeclaredSplits['confidence'],
  { validation, test }: { readonly validation?: string; readonly test?: string },
): DeclaredSplits {
  return {
    validation: [
      validation === undefined
        ? { kind: 'cut', name: 'validation' }
        : { kind: 'given', name: 'validation', how: validation },
    ],
    test: test === undefined ? [] : [{ kind: 'given', name: 'test', how: test }],
    confidence,
  };
}
