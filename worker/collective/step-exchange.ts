/**
 * The bookkeeping of one step's all-reduce on one rank: which frames are sent, received and reduced, and which may follow.
 *
 * The chunk owned by rank c is a sequence of pieces (bucket-plan.ts). Every rank sends its cover nodes of each piece to c, in order; c
 * finishes the tree and sends the sums back, in order. So at any time exactly one part and one sum is acceptable from each peer: a frame is
 * compared with that one. Piece q is sent only after sum q − window of the same chunk has come back, which bounds the receive slots without
 * further messages.
 *
 * Pure state: no sockets, no memory, no clock.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { Piece } from '../arena/bucket-plan.ts';
import { describeFrame, FRAME_PART, FRAME_SUM, type FrameFields } from '../mesh/frame-header.ts';

/** Constant over the steps of a generation. */
export interface ExchangeShape {
  readonly rank: number;
  readonly worldSize: number;
  readonly epoch: number;
  readonly generation: number;
  readonly numBuckets: number;
  /** windows[peer]: its pieces that may wait here for their sums. */
  readonly windows: readonly number[];
  /** pieces[chunk], from planPieces */
  readonly pieces: readonly (readonly Piece[])[];
  /** numCoverNodes[rank] */
  readonly numCoverNodes: readonly number[];
}

export class StepExchange {
  readonly step: number;
  readonly #shape: ExchangeShape;
  readonly #readyOutOfOrder = new Set<number>();
  #readyBuckets = 0;
  /** Pieces of the own chunk that are finished. */
  #reduced = 0;
  /** Frames (pieces × cover nodes) of the own chunk received per peer. */
  readonly #partFrames: number[];
  /** Sums received per chunk owner. */
  readonly #sums: number[];
  /** Pieces sent per chunk owner. */
  readonly #sent: number[];

  constructor(shape: ExchangeShape, step: number) {
    this.#shape = shape;
    this.step = step;
    this.#partFrames = new Array<number>(shape.worldSize).fill(0);
    this.#sums = new Array<number>(shape.worldSize).fill(0);
    this.#sent = new Array<number>(shape.worldSize).fill(0);
  }

  get allReady(): boolean {
    return this.#readyBuckets === this.#shape.numBuckets;
  }

  get numReduced(): number {
    return this.#reduced;
  }

  /** Every piece of the own chunk is finished: its receive slots are free for the next step. */
  get ownChunkDone(): boolean {
    return this.#reduced === this.#shape.pieces[this.#shape.rank]!.length;
  }

  get done(): boolean {
    const { rank, pieces } = this.#shape;
    return (
      this.allReady &&
      this.ownChunkDone &&
      this.#sums.every((count, owner) => owner === rank || count === pieces[owner]!.length)
    );
  }

  /** Buckets may be announced in any order; they are sent in bucket order. @throws INTERNAL for an unknown bucket or a second announcement */
  markReady(bucket: number): void {
    const { numBuckets } = this.#shape;
    if (!Number.isInteger(bucket) || bucket < 0 || bucket >= numBuckets)
      throw new TrainerError('INTERNAL', `bucketReady: expected a bucket below ${numBuckets}, found ${bucket}`);
    if (bucket < this.#readyBuckets || this.#readyOutOfOrder.has(bucket))
      throw new TrainerError('INTERNAL', `bucketReady: bucket ${bucket} of step ${this.step} was announced twice`);
    this.#readyOutOfOrder.add(bucket);
    while (this.#readyOutOfOrder.delete(this.#readyBuckets)) this.#readyBuckets++;
  }

  /** The next piece to send to a chunk's owner, counted as sent; null while the owner's window is full or the bucket is not ready. */
  nextPieceToSend(owner: number, window: number): Piece | null {
    const sent = this.#sent[owner]!;
    const piece = this.#shape.pieces[owner]![sent];
    if (piece === undefined || piece.bucket >= this.#readyBuckets) return null;
    if (sent >= this.#sums[owner]! + window) return null;
    this.#sent[owner] = sent + 1;
    return piece;
  }

  /** The next piece of the own chunk with all operands, counted as reduced; else null. The caller reduces it at once. */
  nextPieceToReduce(): Piece | null {
    const { rank, pieces, numCoverNodes } = this.#shape;
    const piece = pieces[rank]![this.#reduced];
    if (piece === undefined || piece.bucket >= this.#readyBuckets) return null;
    const needed = this.#reduced + 1;
    for (let peer = 0; peer < numCoverNodes.length; peer++)
      if (peer !== rank && this.#partFrames[peer]! < needed * numCoverNodes[peer]!) return null;
    this.#reduced = needed;
    return piece;
  }

  /**
   * The part that is expected from the peer, in the own chunk's sequence.
   * @throws FRAME_STALE, FRAME_INVALID when `found` is not exactly that part
   */
  checkPart(peer: number, found: FrameFields): { piece: Piece; ordinal: number; node: number } {
    const { rank, pieces, numCoverNodes, windows } = this.#shape;
    const window = windows[peer]!;
    const nodes = numCoverNodes[peer]!;
    const ordinal = Math.floor(this.#partFrames[peer]! / nodes);
    const node = this.#partFrames[peer]! % nodes;
    const piece = this.#compare(peer, found, FRAME_PART, pieces[rank]![ordinal], node);
    if (ordinal >= this.#reduced + window)
      throw invalid(peer, `part ${ordinal} before sum ${ordinal - window} was sent: the window is ${window}`, found);
    return { piece, ordinal, node };
  }

  /** @returns the piece of the peer's chunk @throws FRAME_STALE, FRAME_INVALID when `found` is not exactly its next sum */
  checkSum(peer: number, found: FrameFields): Piece {
    const ordinal = this.#sums[peer]!;
    const piece = this.#compare(peer, found, FRAME_SUM, this.#shape.pieces[peer]![ordinal], 0);
    if (ordinal >= this.#sent[peer]!) throw invalid(peer, 'a sum before the own parts of it were sent', found);
    return piece;
  }

  partReceived(peer: number): void {
    this.#partFrames[peer]!++;
  }

  sumReceived(peer: number): void {
    this.#sums[peer]!++;
  }

  /** The header fields of a piece's frame. */
  fieldsOf(type: FrameFields['type'], piece: Piece, node: number): FrameFields {
    const { epoch, generation } = this.#shape;
    const { bucket, chunk, part, offsetBytes, payloadBytes } = piece;
    const { step } = this;
    return { type, node, chunk, epoch, generation, step, bucket, part, byteLength: payloadBytes, offsetBytes };
  }

  /** One sentence for each missing part or sum, for COLLECTIVE_TIMEOUT. */
  describeMissing(): string[] {
    const { rank, pieces, numCoverNodes } = this.#shape;
    const missing: string[] = [];
    for (let peer = 0; peer < numCoverNodes.length; peer++) {
      if (peer === rank) continue;
      const part = pieces[rank]![this.#reduced];
      if (part !== undefined && this.#partFrames[peer]! < (this.#reduced + 1) * numCoverNodes[peer]!)
        missing.push(`rank ${peer} has not sent its part of bucket ${part.bucket} chunk ${rank} part ${part.part}`);
      const sum = pieces[peer]![this.#sums[peer]!];
      if (sum !== undefined)
        missing.push(`rank ${peer} has not sent the sum of bucket ${sum.bucket} chunk ${peer} part ${sum.part}`);
    }
    return missing;
  }

  #compare(peer: number, found: FrameFields, type: FrameFields['type'], piece: Piece | undefined, node: number): Piece {
    const { epoch, generation } = this.#shape;
    if (found.epoch !== epoch || found.generation !== generation || found.step !== this.step)
      throw stale(peer, `epoch ${epoch}, generation ${generation}, step ${this.step}`, found);
    if (piece === undefined) throw stale(peer, 'no further frame of this kind in this step', found);
    const expected = this.fieldsOf(type, piece, node);
    const comesAgain =
      found.bucket < expected.bucket ||
      (found.bucket === expected.bucket &&
        (found.part < expected.part || (found.part === expected.part && found.node < expected.node)));
    if (comesAgain) throw stale(peer, `${describeFrame(expected)}, the earlier ones came already`, found);
    if (
      found.type !== type ||
      found.chunk !== expected.chunk ||
      found.bucket !== expected.bucket ||
      found.part !== expected.part ||
      found.node !== expected.node ||
      found.offsetBytes !== expected.offsetBytes ||
      found.byteLength !== expected.byteLength
    )
      throw invalid(peer, describeFrame(expected), found);
    return piece;
  }
}

function stale(peer: number, expected: string, found: FrameFields): TrainerError {
  return new TrainerError('FRAME_STALE', `rank ${peer}: expected ${expected}; got ${describeFrame(found)}`);
}

function invalid(peer: number, expected: string, found: FrameFields): TrainerError {
  return new TrainerError('FRAME_INVALID', `rank ${peer}: expected ${expected}; got ${describeFrame(found)}`);
}
