/**
 * A record of a source: its fields, or the reason why it is malformed. Both have their origin. Also the options that
 * all readers get.
 */
import { TrainerError } from '../../shared/errors.ts';
import { nearestNames } from '../../shared/nearest-names.ts';
import type { SourceFields } from '../tasks/task.ts';

interface Origin {
  /**
   * The file's name as in the mixture. For a unit that starts inside a text file: `name@byte` with the start of the
   * unit; rows then count from the first line that starts there.
   */
  readonly file: string;
  /**
   * Counted from 1: the line of the decoded text where the record starts, the value of JSON over several lines or of an
   * array, the row of a parquet file, or the record of a TFRecord file.
   */
  readonly row: number;
}

export type SourceRecord =
  | (Origin & { readonly ok: true; readonly fields: SourceFields })
  | (Origin & {
      readonly ok: false;
      readonly reason: string;
      /** Number of rows (lines) in it. Each counts as malformed: an unclosed quote must not hide the rows after it. */
      readonly rows: number;
    });

/** Records of one read: a consumer awaits once for many. */
export type RecordBatch = readonly SourceRecord[];

/** A line without its line break: its text, or the reason why it has none. */
export type TextLine =
  | { readonly line: number; readonly ok: true; readonly text: string }
  | { readonly line: number; readonly ok: false; readonly reason: string };

/** Largest record, bytes. A longer one is malformed; it is skipped and not kept in memory. */
export const MAX_RECORD_BYTES = 16 * 1024 * 1024;

/** ReadOptions with all defaults. */
export interface UnitOptions {
  readonly requiredFields: readonly string[];
  readonly maxRecordBytes: number;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (numBytes: number) => void;
}

/**
 * @param place where the header is, for the message
 * @param missing at least one
 * @param cure instead of a hint at columns
 * @returns CONFIG_INVALID with the nearest columns, or with all columns if none is near
 */
export function missingColumns(
  place: string,
  missing: readonly string[],
  columns: readonly string[],
  cure?: string,
): TrainerError {
  const near = [...new Set(missing.flatMap((name) => nearestNames(name, columns)))];
  const others = near.length > 0 ? `did you mean ${near.join(', ')}?` : `columns: ${columns.join(', ') || 'none'}`;
  return new TrainerError('CONFIG_INVALID', `${place}: no column "${missing.join('", "')}"; ${cure ?? others}`);
}
