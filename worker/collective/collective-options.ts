/** What can be chosen about the all-reduce; the values are the ones that were fastest beside gloo (bench/RESULTS.md). */

export interface CollectiveOptions {
  /** Most bytes of one piece, a multiple of 64. */
  readonly frameBytes: number;
  /** Pieces under way to each chunk owner. */
  readonly window: number;
  /** Checksum every payload before its bytes are used. */
  readonly verify: boolean;
  /** Longest time without any progress once the own buckets are all ready. */
  readonly timeoutMs: number;
}

export const DEFAULT_COLLECTIVE_OPTIONS: CollectiveOptions = {
  frameBytes: 1 << 20,
  window: 8,
  verify: true,
  timeoutMs: 60_000,
};
