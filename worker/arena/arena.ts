/**
 * The one shared memory of a worker's gradients: lane-partial slots first, then receive slots for the peers' frames.
 *
 * | from | bytes | what |
 * |---|---|---|
 * | 0 | 65536 | checksum state of the network thread, else unused: no slot has address 0 |
 * | `slotsAt` | numSlots × slotBytes | stack of lane partials; slot 0 ends up as the reduced gradient |
 * | `receiveAt[peer]` | window of the peer × its cover nodes × receiveStride | parts that wait for their sum |
 * | `sumsAt` | numSums × sumStride | with bfloat16: payloads of sums that are being sent |
 *
 * The compute thread writes partials and folds them; the network thread sends, receives and reduces. Both attach to the same memory, and the
 * message "bucket b is ready" orders their accesses. Padding between parameters stays zero.
 */
import { TrainerError } from '../../shared/errors.ts';
import { widenedBytes, type BucketPlan, type GradientPrecision } from './bucket-plan.ts';
import { bindKernels, type Kernels } from './kernels.ts';
import type { FoldStep, LaneTree } from '../../shared/lane-tree.ts';
import { CHECKSUM_STATE_BYTES, type ChecksumState } from './line-checksum.ts';

const PAGE_BYTES = 65536;
export const MAX_ARENA_BYTES = 2 ** 32;
const CHECKSUM_STATE_AT = 1024;
/** Keeps equal offsets of different receive slots out of the same cache sets. */
const STRIDE_SKEW_BYTES = 4160;

export interface ArenaInit {
  readonly plan: BucketPlan;
  readonly laneTree: LaneTree;
  readonly rank: number;
  /** Most bytes of one payload. */
  readonly frameBytes: number;
  /** Pieces under way from each peer: one number for all, or by rank. */
  readonly window: number | readonly number[];
}

/** Plain numbers: can be posted to another thread along with the memory. */
export interface ArenaLayout {
  readonly precision: GradientPrecision;
  readonly slotsAt: number;
  readonly slotBytes: number;
  readonly numSlots: number;
  /** Address of a peer's first receive slot; the own rank's entry is unused. */
  readonly receiveAt: readonly number[];
  readonly receiveStride: number;
  readonly sumsAt: number;
  readonly sumStride: number;
  readonly numSums: number;
  readonly numCoverNodes: readonly number[];
  readonly windows: readonly number[];
  readonly totalBytes: number;
}

/** @throws CONFIG_INVALID for an arena larger than a 32-bit memory */
export function planArena({ plan, laneTree, rank, frameBytes, window }: ArenaInit): ArenaLayout {
  const fold = laneTree.folds[rank];
  if (fold === undefined)
    throw new TrainerError('CONFIG_INVALID', `rank: expected below world size ${laneTree.worldSize}, found ${rank}`);
  const numCoverNodes = laneTree.folds.map(({ cover }) => cover.length);
  const windows = numCoverNodes.map((_, peer) => (typeof window === 'number' ? window : window[peer]!));
  const { precision } = plan;
  const receiveStride = widenedBytes(frameBytes, precision) + STRIDE_SKEW_BYTES;
  const sumStride = precision === 'float32' ? 0 : frameBytes + STRIDE_SKEW_BYTES;
  const numSums = Math.max(0, ...windows.filter((_, peer) => peer !== rank));
  const receiveAt: number[] = [];
  let end = PAGE_BYTES + fold.numSlots * plan.gradientBytes;
  for (const [peer, nodes] of numCoverNodes.entries()) {
    receiveAt.push(end);
    if (peer !== rank) end += windows[peer]! * nodes * receiveStride;
  }
  const sumsAt = end;
  end += numSums * sumStride;
  const totalBytes = Math.ceil(end / PAGE_BYTES) * PAGE_BYTES;
  if (totalBytes > MAX_ARENA_BYTES)
    throw new TrainerError(
      'CONFIG_INVALID',
      `gradient arena of rank ${rank}: expected at most 4 GiB, needs ${(totalBytes / 2 ** 30).toFixed(2)} GiB = ` +
        `${fold.numSlots} lane partials × ${(plan.gradientBytes / 2 ** 30).toFixed(2)} GiB + receive slots; ` +
        'use fewer lanes per worker (more workers or fewer lanes), or a smaller collective.frameBytes or collective.windowFrames',
    );
  const { numSlots } = fold;
  return {
    precision,
    slotsAt: PAGE_BYTES,
    slotBytes: plan.gradientBytes,
    numSlots,
    receiveAt,
    receiveStride,
    sumsAt,
    sumStride,
    numSums,
    numCoverNodes,
    windows,
    totalBytes,
  };
}

export class Arena {
  readonly layout: ArenaLayout;
  /** Shared; post it with `layout` to another thread and attach an Arena there. */
  readonly memory: WebAssembly.Memory;
  readonly kernels: Kernels;
  readonly #bytes: Buffer;
  readonly #checksum: Uint32Array;

  /**
   * @param memory of another thread's arena with the same layout; by default a new zeroed memory
   * @throws CONFIG_INVALID when the system has not so much memory
   */
  constructor(layout: ArenaLayout, memory?: WebAssembly.Memory) {
    this.layout = layout;
    this.memory = memory ?? createMemory(layout.totalBytes);
    if (this.memory.buffer.byteLength < layout.totalBytes)
      throw new TrainerError(
        'INTERNAL',
        `arena memory: expected ${layout.totalBytes} B, found ${this.memory.buffer.byteLength} B`,
      );
    this.kernels = bindKernels(this.memory, layout.precision);
    this.#bytes = Buffer.from(this.memory.buffer);
    this.#checksum = new Uint32Array(this.memory.buffer, CHECKSUM_STATE_AT, CHECKSUM_STATE_BYTES / 4);
  }

  /** Address of byte `offsetBytes` of the flat gradient in a lane-partial slot. */
  slotAddress(slot: number, offsetBytes: number): number {
    return this.layout.slotsAt + slot * this.layout.slotBytes + offsetBytes;
  }

  /** Address where piece number `ordinal` (of the own chunk's sequence) of the peer's cover node `node` is received. */
  receiveAddress(peer: number, ordinal: number, node: number): number {
    const { receiveAt, receiveStride, numCoverNodes, windows } = this.layout;
    return receiveAt[peer]! + ((ordinal % windows[peer]!) * numCoverNodes[peer]! + node) * receiveStride;
  }

  /**
   * Address of the payload of the own chunk's sum number `ordinal`, where that is not slot 0 itself. An address is used again after as many
   * sums as the longest window: then every peer has sent a part that it sends only after it has that sum.
   */
  sumAddress(ordinal: number): number {
    const { sumsAt, sumStride, numSums } = this.layout;
    return sumsAt + (ordinal % numSums) * sumStride;
  }

  /** The bytes themselves, not a copy. */
  bytes(address: number, byteLength: number): Buffer {
    return this.#bytes.subarray(address, address + byteLength);
  }

  /** Elements [offsetBytes / 4, …) of a slot, not a copy. [numElements] */
  floats(slot: number, offsetBytes: number, numElements: number): Float32Array {
    return new Float32Array(this.memory.buffer, this.slotAddress(slot, offsetBytes), numElements);
  }

  /** State of whole 64-byte lines. Checksums are one thread's alone. */
  checksum(address: number, byteLength: number): ChecksumState {
    this.beginChecksum();
    this.continueChecksum(address, byteLength);
    return this.endChecksum();
  }

  /** Begins a checksum over several ranges. */
  beginChecksum(): void {
    this.#checksum.fill(0);
  }

  /** Adds the next whole 64-byte lines. */
  continueChecksum(address: number, byteLength: number): void {
    this.kernels.lineChecksum(CHECKSUM_STATE_AT, address, byteLength);
  }

  /** State of all lines since `beginChecksum`. */
  endChecksum(): ChecksumState {
    return new Uint32Array(this.#checksum);
  }

  /**
   * Folds bytes [startBytes, endBytes) of a lane's gradient into the tree sums below it on the stack. Write the lane's gradient to slot
   * `step.slot` before. Lane and sums are rounded to the precision of gradients: a slot then holds tree nodes.
   */
  fold(step: FoldStep, startBytes: number, endBytes: number): void {
    this.kernels.round(this.slotAddress(step.slot, startBytes), endBytes - startBytes);
    for (let slot = step.slot; slot > step.slot - step.merges; slot--) {
      const left = this.slotAddress(slot - 1, startBytes);
      this.kernels.add2(left, left, this.slotAddress(slot, startBytes), endBytes - startBytes);
    }
  }
}

function createMemory(totalBytes: number): WebAssembly.Memory {
  const pages = totalBytes / PAGE_BYTES;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (error) {
    throw new TrainerError(
      'CONFIG_INVALID',
      `gradient arena: the system cannot allocate ${(totalBytes / 2 ** 30).toFixed(2)} GiB of shared memory; ` +
        'use fewer lanes per worker or a smaller model',
      { cause: error },
    );
  }
}

/**
 * Gradient memory of earlier generations, kept for later ones: it is large and slow to create. Release a memory only when nothing can write to
 * it any more: the channels of its collective are closed.
 */
export class ArenaPool {
  readonly #capacity: number;
  readonly #free: WebAssembly.Memory[] = [];

  /** @param capacity the most memories that are kept */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** An arena with zeroed memory, a kept one where it is large enough. @throws CONFIG_INVALID as Arena does */
  acquire(layout: ArenaLayout): Arena {
    const index = this.#free.findIndex(({ buffer }) => buffer.byteLength >= layout.totalBytes);
    if (index < 0) {
      this.#free.shift(); // too small: free it before more is allocated
      return new Arena(layout);
    }
    const [memory] = this.#free.splice(index, 1);
    new Uint8Array(memory!.buffer).fill(0);
    return new Arena(layout, memory);
  }

  release({ memory }: Arena): void {
    if (this.#free.length < this.#capacity) this.#free.push(memory);
  }
}
