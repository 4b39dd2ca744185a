/**
 * The passes over the bytes of one piece: checksums, additions up to the root of the canonical tree, squares. They are made block by
 * block with the SIMD kernels, so that a block is in the cache for all that is computed of it. Payloads are checked on arrival, when
 * the kernel has just written them.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { LaneTree } from '../../shared/lane-tree.ts';
import type { Arena } from './arena.ts';
import type { Piece } from './bucket-plan.ts';
import type { FrameHeader } from './frame-header.ts';
import type { GradientNorm } from './gradient-norm.ts';
import { finishChecksum, type ChecksumState } from './line-checksum.ts';

export interface PiecePassesInit {
  readonly arena: Arena;
  readonly laneTree: LaneTree;
  readonly rank: number;
  /** Check received payloads. */
  readonly verify: boolean;
}

export class PiecePasses {
  readonly #init: PiecePassesInit;

  constructor(init: PiecePassesInit) {
    this.#init = init;
  }

  /** A part has arrived in its receive slot. @throws FRAME_INVALID when it is damaged */
  checkPart(peer: number, ordinal: number, header: FrameHeader): void {
    const { arena, verify } = this.#init;
    const address = arena.receiveAddress(peer, ordinal, header.node);
    if (verify) checkPayload(peer, header, arena.checksum(address, header.byteLength));
  }

  /**
   * Adds everybody's cover nodes of a piece of the own chunk; the result lies in slot 0, the operands' bytes are used up.
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
   * Goes over a sum that has arrived in slot 0.
   * @returns its state @throws FRAME_INVALID when it is damaged
   */
  takeSum(peer: number, piece: Piece, header: FrameHeader, norm: GradientNorm): ChecksumState {
    const { arena, verify } = this.#init;
    arena.beginChecksum();
    norm.walk(piece, (offsetBytes, byteLength) => {
      arena.continueChecksum(arena.slotAddress(0, offsetBytes), byteLength);
    });
    const state = arena.endChecksum();
    if (verify) checkPayload(peer, header, state);
    return state;
  }

  /** For the header of a payload that is about to be sent: uint32, or 0 without verification. */
  checksum(address: number, byteLength: number): number {
    return this.#init.verify ? finishChecksum(this.#init.arena.checksum(address, byteLength)) : 0;
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

function checkPayload(peer: number, header: FrameHeader, state: ChecksumState): void {
  const found = finishChecksum(state);
  if (found === header.payloadChecksum) return;
  throw new TrainerError(
    'FRAME_INVALID',
    `rank ${peer}: payload of bucket ${header.bucket} chunk ${header.chunk} part ${header.part}: ` +
      `expected checksum ${header.payloadChecksum}, got ${found}; bytes were changed on the way (step ${header.step})`,
  );
}
