/**
 * How many pieces of each peer may be under way, by the length of the way to it. A piece is under way until its sum has come back, so a
 * window that is short for the round trip leaves the link idle; a longer one than needed costs memory and leaves the cache.
 *
 * A link carries parts for one half of its time and sums for the other, and is shared by the peers. Its rate is not known and taken as that of
 * a fast one: on a slower link frames only wait in the sender, as views of its gradient. Windows are powers of two, so that generations
 * ask for few different sizes of memory, although no two measurements are the same.
 *
 * Pure. The bits are the same for any windows (step-exchange.ts).
 */
const FASTEST_LINK_BYTES_PER_MS = 1_250_000; // 10 Gbit/s

export interface WindowsInit {
  /** By rank; of the own one anything. */
  readonly roundTripsMs: readonly number[];
  /** numCoverNodes[peer]: frames of a piece */
  readonly numCoverNodes: readonly number[];
  /** Memory of a frame. */
  readonly slotBytes: number;
  /** The window of a short way. */
  readonly windowFrames: number;
  /** For the windows of all peers; less than `windowFrames` of each is never given. */
  readonly maxWindowBytes: number;
}

/** @returns by rank */
export function planWindows(init: WindowsInit): number[] {
  const { roundTripsMs, numCoverNodes, slotBytes, windowFrames, maxWindowBytes } = init;
  const numPeers = Math.max(1, roundTripsMs.length - 1);
  return roundTripsMs.map((roundTripMs, peer) => {
    const partsBytes = (roundTripMs * FASTEST_LINK_BYTES_PER_MS) / 2 / numPeers;
    const wanted = 1 + Math.ceil(partsBytes / slotBytes); // one more is being added here
    const rounded = 2 ** Math.ceil(Math.log2(wanted));
    const most = Math.floor(maxWindowBytes / numPeers / (slotBytes * numCoverNodes[peer]!));
    return Math.max(windowFrames, Math.min(rounded, most));
  });
}
