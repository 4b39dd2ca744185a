/**
 * The interface of storage: a local folder, a web server, an S3 bucket.
 *
 * Definitions. A *key* is a `/`-separated name below the location that a storage was opened at; the empty key is the location itself.
 * A *version* changes when the bytes of an object change (identity of a local file, ETag). It is opaque, and stable as long as the object
 * is not written. A read with a version fails with STORAGE_CHANGED if the object has another one.
 *
 * Assumptions: an object is replaced as a whole (S3) or by rename. A write in place to a local file is detected by size and modification
 * time only.
 */

/** Size, bytes, and version of an object. */
export interface ObjectFacts {
  readonly bytes: number;
  readonly version: string;
}

export interface ListedObject extends ObjectFacts {
  readonly key: string;
}

export interface StreamOptions {
  /** First byte; default 0. */
  readonly from?: number | undefined;
  /** Byte behind the last one; default: the end of the object. */
  readonly to?: number | undefined;
  readonly version?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * All methods throw STORAGE_NOT_FOUND, STORAGE_DENIED, STORAGE_UNAVAILABLE (past the deadline of the retry policy) and ABORTED; a local
 * storage also PATH_UNUSABLE and DISK_FULL.
 */
export interface Storage {
  /** The location, without credentials; for messages. */
  readonly location: string;
  /** Full name of an object, for messages. */
  placeOf(key: string): string;
  head(key: string, signal?: AbortSignal): Promise<ObjectFacts>;
  /**
   * Exactly `length` bytes from byte `from`.
   * @throws STORAGE_TRUNCATED if the object is shorter, STORAGE_CHANGED if it has another version
   */
  readRange(key: string, from: number, length: number, signal?: AbortSignal, version?: string): Promise<Uint8Array>;
  /**
   * The bytes `from` … `to`, in chunks, in bounded memory. After a broken connection the stream resumes at the same byte, in the same
   * version. The consumer owns the chunks.
   * @throws STORAGE_TRUNCATED if the object ends before `to`, STORAGE_CHANGED if it has another version or gets one meanwhile
   */
  stream(key: string, options?: StreamOptions): AsyncIterable<Uint8Array>;
  /** All objects whose key starts with `prefix`, in ascending order of their keys' UTF-8 bytes. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<ListedObject>;
  /** Writes a whole object; readers see the old bytes or the new ones. */
  put(key: string, body: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Removes an object, if it exists. */
  delete(key: string, signal?: AbortSignal): Promise<void>;
}

/** Ascending order of the keys' UTF-8 bytes, which is that of their code points; keys are well-formed. */
export function compareKeys(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  for (let i = 0; i < end; i++) {
    const unitA = a.charCodeAt(i);
    const unitB = b.charCodeAt(i);
    if (unitA !== unitB) return rankOf(unitA) - rankOf(unitB);
  }
  return a.length - b.length;
}

/** Surrogates encode the highest code points, but U+E000 … U+FFFF have larger code units. */
function rankOf(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
