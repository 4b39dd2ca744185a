/**
 * The training state as a list of numbered pieces. Pure.
 *
 * The list depends on names and lengths only, so holder and receiver, which have the same model, number the same pieces: parameters first,
 * then optimizer slots, each in name order, each tensor cut into pieces of `MAX_PIECE_BYTES` and a rest. A piece belongs to one tensor
 * and is never empty.
 */
import { crc32 } from 'node:zlib';
import { compareNames } from '../../shared/checkpoint/shard-plan.ts';
import { assertInvariant } from '../../shared/errors.ts';

export const MAX_PIECE_BYTES = 1 << 20;

/** Parameters and optimizer slots by name; a name may occur in both. */
export interface StateTensors {
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizerSlots: ReadonlyMap<string, Float32Array>;
}

export interface StatePiece {
  /** Index in the list. */
  readonly number: number;
  /** `parameter NAME` or `optimizer slot NAME`. */
  readonly tensor: string;
  /** Offset of its first byte in the tensor, B. */
  readonly offsetBytes: number;
  /** A view of the tensor. */
  readonly bytes: Uint8Array;
}

export interface StatePlan {
  readonly pieces: readonly StatePiece[];
  /** Sum of all pieces, B. */
  readonly numBytes: number;
  /** CRC-32 of names and lengths: differs when two sides have different models. */
  readonly layout: number;
}

/** @throws INTERNAL for pieces that would cut a value in two */
export function planPieces(tensors: StateTensors, maxPieceBytes = MAX_PIECE_BYTES): StatePlan {
  const isWhole = maxPieceBytes >= 4 && maxPieceBytes % Float32Array.BYTES_PER_ELEMENT === 0;
  assertInvariant(isWhole, `pieces of ${maxPieceBytes} B hold no whole number of values`);
  const named = [
    ...inNameOrder('parameter', tensors.parameters),
    ...inNameOrder('optimizer slot', tensors.optimizerSlots),
  ];
  const pieces: StatePiece[] = [];
  let numBytes = 0;
  let layout = 0;
  for (const [tensor, values] of named) {
    const { buffer, byteOffset, byteLength } = values;
    for (let offsetBytes = 0; offsetBytes < byteLength; offsetBytes += maxPieceBytes) {
      const length = Math.min(maxPieceBytes, byteLength - offsetBytes);
      const bytes = new Uint8Array(buffer, byteOffset + offsetBytes, length);
      pieces.push({ number: pieces.length, tensor, offsetBytes, bytes });
    }
    numBytes += byteLength;
    layout = crc32(`${tensor} ${byteLength}\n`, layout);
  }
  return { pieces, numBytes, layout };
}

/** `piece 3 (parameter shared.weight, 1048576 B at 2097152)` */
export function describePiece({ number, tensor, bytes, offsetBytes }: StatePiece): string {
  return `piece ${number} (${tensor}, ${bytes.byteLength} B at ${offsetBytes})`;
}

function inNameOrder(kind: string, tensors: ReadonlyMap<string, Float32Array>): [string, Float32Array][] {
  return [...tensors].sort(([a], [b]) => compareNames(a, b)).map(([name, values]) => [`${kind} ${name}`, values]);
}
