/** What a reader yields: a record with its fields, or a malformed one with the reason; both with their place of origin. */
import type { SourceFields } from '../tasks/task.ts';

interface Origin {
  /**
   * The file's name as in the mixture. In a piece of a text file that starts in its middle, `name@byte`: the position of the
   * piece, whose rows count from the first line that starts there.
   */
  readonly file: string;
  /** From 1: the line of the (decompressed) text on which the record starts; the row of a parquet file; the record of a TFRecord file. */
  readonly row: number;
}

export type SourceRecord =
  | (Origin & { readonly ok: true; readonly fields: SourceFields })
  | (Origin & {
      readonly ok: false;
      readonly reason: string;
      /** Rows (lines) it took. Each counts as a malformed row: an unclosed quote must not hide the rows that it swallows. */
      readonly rows: number;
    });

/** Records of one read, so that a consumer awaits once for many. */
export type RecordBatch = readonly SourceRecord[];

/** A line without its line break: its text, or why it has none. */
export type TextLine =
  | { readonly line: number; readonly ok: true; readonly text: string }
  | { readonly line: number; readonly ok: false; readonly reason: string };

/** Largest record, bytes. A longer one is malformed; it is skipped without being held in memory. */
export const MAX_RECORD_BYTES = 16 * 1024 * 1024;
