/**
 * Bytes anywhere: what a local folder, a web server and an S3 bucket have in common.
 *
 * Definitions. A *key* is a `/`-separated name below the location that a storage was opened at; the empty key is the location itself.
 * A *version* is what changes when the bytes of an object change (a local file's identity, an ETag); it is opaque, and stable as long
 * as the object is not written. Reads that are given a version fail with STORAGE_CHANGED when the object has another one.
 *
 * Assumptions: an object is replaced as a whole (S3) or by rename; a local file that is written in place is noticed by its size
 * and time of change only.
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
 * All methods throw STORAGE_NOT_FOUND, STORAGE_DENIED, STORAGE_UNAVAILABLE (past the deadline of the retry policy) and ABORTED;
 * a local storage PATH_UNUSABLE and DISK_FULL besides.
 */
export interface Storage {
  /** Where it was opened, without credentials; for messages. */
  readonly location: string;
  /** The object's full place, for messages. */
  placeOf(key: string): string;
  head(key: string, signal?: AbortSignal): Promise<ObjectFacts>;
  /**
   * Exactly `length` bytes from byte `from`.
   * @throws STORAGE_TRUNCATED where the object ends before, STORAGE_CHANGED where it has another version
   */
  readRange(key: string, from: number, length: number, signal?: AbortSignal, version?: string): Promise<Uint8Array>;
  /**
   * The bytes `from` … `to`, in chunks, in bounded memory; a connection that breaks is resumed where it broke, in the same version.
   * A chunk is the consumer's own.
   * @throws STORAGE_TRUNCATED where the object ends before `to`, STORAGE_CHANGED where it has another version or gets one in between
   */
  stream(key: string, options?: StreamOptions): AsyncIterable<Uint8Array>;
  /** All objects whose key starts with `prefix`, in ascending order of their keys' UTF-8 bytes. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<ListedObject>;
  /** Writes a whole object; readers see the old bytes or the new ones. */
  put(key: string, body: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Removes an object; one that is not there is no error. */
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

/** Surrogates stand for code points above all others, but U+E000 … U+FFFF have larger units. */
function rankOf(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
