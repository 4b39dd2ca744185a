/**
 * The passes over the bytes of one piece: checksums, additions up to the root of the canonical tree, squares. The SIMD kernels run block by
 * block, so that a block is in the cache for all computations on it. Payloads are checked on arrival, when the kernel has just written them.
 *
 * A payload of bfloat16 is half as long as its piece. It is received into the second half of the piece's memory and widened there. A part to
 * send is narrowed in its own memory, which is not needed until the sum comes back.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { LaneTree } from '../../shared/lane-tree.ts';
import type { Arena } from '../arena/arena.ts';
import type { Piece } from '../arena/bucket-plan.ts';
import type { FrameHeader } from '../mesh/frame-header.ts';
import type { GradientNorm } from './gradient-norm.ts';
import { finishChecksum, type ChecksumState } from '../arena/line-checksum.ts';

export interface PiecePassesInit {
  readonly arena: Arena;
  readonly laneTree: LaneTree;
  readonly rank: number;
  /** Check received payloads. */
  readonly verify: boolean;
}

export interface Payload {
  readonly bytes: Uint8Array;
  /** uint32, or 0 without verification. */
  readonly checksum: number;
}

export class PiecePasses {
  readonly #init: PiecePassesInit;
  readonly #isNarrow: boolean;

  constructor(init: PiecePassesInit) {
    this.#init = init;
    this.#isNarrow = init.arena.layout.precision === 'bfloat16';
  }

  /** Target of the payload of a peer's part. @param ordinal the piece's number in the own chunk's sequence */
  partTarget(peer: number, ordinal: number, node: number, piece: Piece): Uint8Array {
    const { arena } = this.#init;
    return arena.bytes(payloadAddress(arena.receiveAddress(peer, ordinal, node), piece), piece.payloadBytes);
  }

  /** Target of the payload of a sum. */
  sumTarget(piece: Piece): Uint8Array {
    const { arena } = this.#init;
    return arena.bytes(payloadAddress(arena.slotAddress(0, piece.offsetBytes), piece), piece.payloadBytes);
  }

  /** A part has arrived in its receive slot. @throws FRAME_INVALID for a damaged part */
  receivePart(peer: number, ordinal: number, piece: Piece, header: FrameHeader): void {
    const { arena, verify } = this.#init;
    const address = arena.receiveAddress(peer, ordinal, header.node);
    const payloadAt = payloadAddress(address, piece);
    if (verify) checkPayload(peer, header, arena.checksum(payloadAt, piece.payloadBytes));
    if (this.#isNarrow) arena.kernels.widen(address, payloadAt, piece.byteLength);
  }

  /**
   * Adds all ranks' cover nodes of a piece of the own chunk into slot 0; overwrites the operands.
   * @param ordinal the piece's number in the own chunk's sequence; every peer's parts of it have arrived
   * @returns the state of the sum
   */
  reduce(piece: Piece, ordinal: number, norm: GradientNorm): ChecksumState {
    const { arena, laneTree, rank } = this.#init;
    const addresses = laneTree.leaves.map((leaf) =>
      leaf.rank === rank
        ? arena.slotAddress(leaf.node, piece.offsetBytes)
        : arena.receiveAddress(leaf.rank, ordinal, leaf.node),
    );
    arena.beginChecksum();
    norm.walk(piece, (offsetBytes, byteLength) => {
      const target = arena.slotAddress(0, offsetBytes);
      this.#add(addresses, target, offsetBytes - piece.offsetBytes, byteLength);
      arena.continueChecksum(target, byteLength);
    });
    return arena.endChecksum();
  }

  /**
   * Checks, widens and sums the squares of a sum that has arrived in slot 0.
   * @returns its checksum state @throws FRAME_INVALID for a damaged sum
   */
  receiveSum(peer: number, piece: Piece, header: FrameHeader, norm: GradientNorm): ChecksumState {
    const { arena, verify } = this.#init;
    const payloadAt = payloadAddress(arena.slotAddress(0, piece.offsetBytes), piece);
    if (verify && this.#isNarrow) checkPayload(peer, header, arena.checksum(payloadAt, piece.payloadBytes));
    arena.beginChecksum();
    norm.walk(piece, (offsetBytes, byteLength) => {
      const target = arena.slotAddress(0, offsetBytes);
      if (this.#isNarrow) arena.kernels.widen(target, payloadAt + (offsetBytes - piece.offsetBytes) / 2, byteLength);
      arena.continueChecksum(target, byteLength);
    });
    const state = arena.endChecksum();
    if (verify && !this.#isNarrow) checkPayload(peer, header, state);
    return state;
  }

  /** The own cover node of a piece of another rank's chunk, ready to send. Overwrites its float32. */
  partPayload(piece: Piece, node: number): Payload {
    const { arena } = this.#init;
    const address = arena.slotAddress(node, piece.offsetBytes);
    if (this.#isNarrow) arena.kernels.narrow(address, address, piece.byteLength);
    return this.#payload(address, piece);
  }

  /** A sum of `reduce`, ready to send. @param state that `reduce` returned */
  sumPayload(piece: Piece, ordinal: number, state: ChecksumState): Payload {
    const { arena, verify } = this.#init;
    const address = arena.slotAddress(0, piece.offsetBytes);
    if (!this.#isNarrow)
      return { bytes: arena.bytes(address, piece.byteLength), checksum: verify ? finishChecksum(state) : 0 };
    const narrowed = arena.sumAddress(ordinal);
    arena.kernels.narrow(narrowed, address, piece.byteLength);
    return this.#payload(narrowed, piece);
  }

  #payload(address: number, { payloadBytes }: Piece): Payload {
    const { arena, verify } = this.#init;
    const checksum = verify ? finishChecksum(arena.checksum(address, payloadBytes)) : 0;
    return { bytes: arena.bytes(address, payloadBytes), checksum };
  }

  #add(addresses: readonly number[], target: number, skip: number, byteLength: number): void {
    const { kernels } = this.#init.arena;
    const { finish } = this.#init.laneTree;
    for (let i = 0; i < finish.length; i++) {
      const [a, b, c, d] = finish[i]!.operands;
      const atA = addresses[a]! + skip;
      const atB = addresses[b]! + skip;
      const to = i === finish.length - 1 ? target : atA;
      if (c === undefined) kernels.add2(to, atA, atB, byteLength);
      else kernels.add4(to, atA, atB, addresses[c]! + skip, addresses[d!]! + skip, byteLength);
    }
  }
}

/** At the end of the piece's memory, so that a shorter payload can be widened in place. */
function payloadAddress(address: number, { byteLength, payloadBytes }: Piece): number {
  return address + byteLength - payloadBytes;
}

function checkPayload(peer: number, header: FrameHeader, state: ChecksumState): void {
  const found = finishChecksum(state);
  if (found === header.payloadChecksum) return;
  throw new TrainerError(
    'FRAME_INVALID',
    `rank ${peer}: payload of bucket ${header.bucket} chunk ${header.chunk} part ${header.part}: ` +
      `expected checksum ${header.payloadChecksum}, got ${found}; bytes were changed on the way (step ${header.step})`,
  );
}
