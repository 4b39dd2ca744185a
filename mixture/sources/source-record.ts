/** What a reader yields: a record with its fields, or a malformed one with the reason; both with their place of origin. */
import type { SourceFields } from '../tasks/task.ts';

interface Origin {
  /** The file's name as in the mixture. */
  readonly file: string;
  /** Line of the (decompressed) file on which the record starts, from 1. */
  readonly line: number;
}

export type SourceRecord =
  | (Origin & { readonly ok: true; readonly fields: SourceFields })
  | (Origin & {
      readonly ok: false;
      readonly reason: string;
      /** Lines it took. Each counts as a malformed row: an unclosed quote must not hide the rows that it swallows. */
      readonly lines: number;
    });

/** Records of one read, so that a consumer awaits once for many. */
export type RecordBatch = readonly SourceRecord[];

/** A line without its line break: its text, or why it has none. */
export type TextLine =
  | { readonly line: number; readonly ok: true; readonly text: string }
  | { readonly line: number; readonly ok: false; readonly reason: string };

/** Largest record, bytes. A longer one is malformed; it is skipped without being held in memory. */
export const MAX_RECORD_BYTES = 16 * 1024 * 1024;
