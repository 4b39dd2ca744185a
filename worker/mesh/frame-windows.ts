/**
 * How many pieces of each peer may be under way, from the round trip to it. A piece is under way until its sum has come back: a window too
 * short for the round trip leaves the network idle, a longer one than needed costs memory and leaves the cache.
 *
 * A link carries parts for one half of its time and sums for the other, and the peers share it. Its rate is unknown and assumed to be a fast
 * one: on a slower link frames only wait in the sender, as views of its gradient. Windows are powers of two, so that measurements that
 * differ give generations few different sizes of memory.
 *
 * Pure. The bits are the same for any windows (step-exchange.ts).
 */
const FASTEST_LINK_BYTES_PER_MS = 1_250_000; // 10 Gbit/s

export interface WindowsInit {
  /** By rank; the own entry is ignored. */
  readonly roundTripsMs: readonly number[];
  /** numCoverNodes[peer]: frames of a piece */
  readonly numCoverNodes: readonly number[];
  /** Memory of one frame. */
  readonly slotBytes: number;
  /** The smallest window. */
  readonly windowFrames: number;
  /** For the windows of all peers together; each peer gets at least `windowFrames` all the same. */
  readonly maxWindowBytes: number;
}

/** @returns by rank */
export function planWindows(init: WindowsInit): number[] {
  const { roundTripsMs, numCoverNodes, slotBytes, windowFrames, maxWindowBytes } = init;
  const numPeers = Math.max(1, roundTripsMs.length - 1);
  return roundTripsMs.map((roundTripMs, peer) => {
    const partsBytes = (roundTripMs * FASTEST_LINK_BYTES_PER_MS) / 2 / numPeers;
    const wanted = 1 + Math.ceil(partsBytes / slotBytes); // one piece more is being reduced here
    const rounded = 2 ** Math.ceil(Math.log2(wanted));
    const most = Math.floor(maxWindowBytes / numPeers / (slotBytes * numCoverNodes[peer]!));
    return Math.max(windowFrames, Math.min(rounded, most));
  });
}
