/**
 * A source whose files are known, and the pieces it is read in. Plain JSON values: they travel to other processes.
 */
import type { SourceFormat } from '../tasks/task.ts';

export interface ResolvedFile {
  /** Stable name, `/`: what manifests hold. */
  readonly name: string;
  /** Absolute path or URL; a URL may hold credentials. Depends on the machine: never in a manifest or a message. */
  readonly location: string;
  readonly bytes: number;
  /** What makes a changed file another: `sha256:…` (local files, LFS files of the hub), `git:…` (others of the hub), `etag:…`. */
  readonly version: string;
  /** The storage's own version, checked at each read. Depends on the machine: never in a manifest. Not there for files of the hub. */
  readonly storageVersion?: string;
}

/** Where on a hub the files are: the revision is a commit. */
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
}

/** A piece of a source that can be read by itself. All units of a source, in order, hold each of its records once, in order. */
export interface SourceUnit {
  /** Index into the source's files. */
  readonly file: number;
  readonly part:
    | { readonly kind: 'whole' }
    /** The lines that start at bytes `from` … `to` - 1. */
    | { readonly kind: 'bytes'; readonly from: number; readonly to: number }
    /** Parquet: rows `from` … `to` - 1 from 0; whole row groups. */
    | { readonly kind: 'rows'; readonly from: number; readonly to: number };
  /** Bytes of the file that are read for it, about; for progress. */
  readonly bytes: number;
}
