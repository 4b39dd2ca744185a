/**
 * A source with its known files, and the units it is read in. Both are plain JSON values, because they are sent to
 * other processes.
 */
import type { SourceFormat } from '../tasks/task.ts';

export interface ResolvedFile {
  /** Stable name with `/`, for manifests. */
  readonly name: string;
  /**
   * Absolute path or URL, which may contain credentials. It depends on the machine: never put it in a manifest or a
   * message.
   */
  readonly location: string;
  readonly bytes: number;
  /**
   * Identifies the content: `sha256:…` (local files, LFS files of the hub), `git:…` (other files of the hub), `etag:…`.
   */
  readonly version: string;
  /**
   * The storage's own version, checked at each read. It depends on the machine: never put it in a manifest. Files of
   * the hub have none.
   */
  readonly storageVersion?: string;
}

/** The place of the files on a hub. The revision is a commit. */
export interface HubOrigin {
  readonly dataset: string;
  readonly config?: string;
  readonly split: string;
  readonly revision: string;
}

export interface ResolvedSource {
  readonly format: SourceFormat;
  readonly quotes: boolean;
  readonly files: readonly ResolvedFile[];
  readonly origin?: HubOrigin;
  /** Rows that the README.md of a hub's data set tells. No part of the identity: the text may change, and no byte of the data. */
  readonly expectedRows?: number;
}

/**
 * A part of a source that can be read alone. All units of a source, in order, hold each of its records once, in order.
 */
export interface SourceUnit {
  /** Index into the source's files. */
  readonly file: number;
  readonly part:
    | { readonly kind: 'whole' }
    /** The lines that start at bytes `from` … `to` - 1. */
    | { readonly kind: 'bytes'; readonly from: number; readonly to: number }
    /** Parquet: rows `from` … `to` - 1, counted from 0. Whole row groups. */
    | { readonly kind: 'rows'; readonly from: number; readonly to: number };
  /** About how many bytes of the file are read for it, for progress. */
  readonly bytes: number;
}
