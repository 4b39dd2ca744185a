/** Messages of the failures that every kind of storage has. */
import { TrainerError } from '../errors.ts';

export function notFound(place: string, why = ''): TrainerError {
  return new TrainerError('STORAGE_NOT_FOUND', `${place} is not there${why === '' ? '' : ` (${why})`}`);
}

export function changed(place: string, expected: string, found: string): TrainerError {
  return new TrainerError(
    'STORAGE_CHANGED',
    `${place} changed while it was being read: expected version ${expected}, found ${found}; start again when it is complete`,
  );
}

export function truncated(place: string, expected: number, found: number): TrainerError {
  return new TrainerError(
    'STORAGE_TRUNCATED',
    `${place} is truncated: expected at least ${expected} B, found ${found} B; fetch or write it again`,
  );
}
