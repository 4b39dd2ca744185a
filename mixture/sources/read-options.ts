/** How a source is read. */
import type { SourceAccess } from './source-access.ts';

export interface ReadOptions {
  /** Columns that there must be; of parquet only these are read. */
  readonly requiredFields?: readonly string[];
  /** Larger records are malformed. Default MAX_RECORD_BYTES. */
  readonly maxRecordBytes?: number;
  readonly signal?: AbortSignal;
  /** Called with the bytes of each chunk read, before decompression. */
  readonly onBytes?: (numBytes: number) => void;
  /** Called again and again while a file is downloaded first. */
  readonly onDownload?: () => void;
  readonly access: SourceAccess;
}

/** ReadOptions with what was left out filled in. */
export interface UnitOptions {
  readonly requiredFields: readonly string[];
  readonly maxRecordBytes: number;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (numBytes: number) => void;
}
