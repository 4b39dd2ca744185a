/** Adds everybody's cover nodes of one piece up to the root of the canonical tree, in place, with the SIMD kernels. */
import type { Arena } from './arena.ts';
import type { Piece } from './bucket-plan.ts';
import type { LaneTree } from '../../shared/lane-tree.ts';

interface TreePlace {
  readonly arena: Arena;
  readonly laneTree: LaneTree;
  readonly rank: number;
}

/**
 * The result lies in slot 0 at the piece's offset; the operands' bytes are used up.
 * @param piece of the own chunk, with every peer's nodes received
 * @param ordinal the piece's number in the own chunk's sequence
 */
export function finishTree({ arena, laneTree, rank }: TreePlace, piece: Piece, ordinal: number): void {
  const { kernels } = arena;
  const { offsetBytes, byteLength } = piece;
  const addresses = laneTree.leaves.map((leaf) =>
    leaf.rank === rank
      ? arena.slotAddress(leaf.node, offsetBytes)
      : arena.receiveAddress(leaf.rank, ordinal, leaf.node),
  );
  const last = laneTree.finish.length - 1;
  for (const [i, { operands }] of laneTree.finish.entries()) {
    const [a, b, c, d] = operands.map((leaf) => addresses[leaf]!);
    const target = i === last ? arena.slotAddress(0, offsetBytes) : a!;
    if (c === undefined) kernels.add2(target, a!, b!, byteLength);
    else kernels.add4(target, a!, b!, c, d!, byteLength);
  }
}
