/** What is told of columns that a file lacks. */
import { TrainerError } from '../../shared/errors.ts';
import { nearestNames } from '../../shared/nearest-names.ts';

/**
 * @param place of the header, for messages
 * @param missing at least one
 * @returns CONFIG_INVALID, naming the nearest columns, or all where none is near
 */
export function missingColumns(place: string, missing: readonly string[], columns: readonly string[]): TrainerError {
  const near = [...new Set(missing.flatMap((name) => nearestNames(name, columns)))];
  const hint = near.length > 0 ? `did you mean ${near.join(', ')}?` : `columns: ${columns.join(', ')}`;
  return new TrainerError('CONFIG_INVALID', `${place}: no column "${missing.join('", "')}"; ${hint}`);
}
