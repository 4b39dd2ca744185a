/**
 * Microbatches in shared memory: the feed thread fills a slot, the compute thread reads and releases it. One thread owns a slot at a time; the
 * messages `batch` and `free` (feed-messages.ts) pass the ownership, so no lock is needed.
 *
 * Layout of a slot, int32, R = rows, I = inputs length, T = targets length:
 * encoderInputIds [R, I] · encoderSegmentIds [R, I] · decoderInputIds [R, T] · decoderSegmentIds [R, T] · labels [R, T] · taskOfTarget [R, T]
 */
import type { BatchArrays } from '../../mixture/feed/batch.ts';

export interface BatchShape {
  readonly numRows: number;
  readonly inputsLength: number;
  readonly targetsLength: number;
}

/** Memory of `numSlots` slots. */
export function createBatchRing(shape: BatchShape, numSlots: number): SharedArrayBuffer {
  return new SharedArrayBuffer(numSlots * slotBytes(shape));
}

/** The arrays of one slot, not copies. */
export function viewSlot(ring: SharedArrayBuffer, shape: BatchShape, slot: number): BatchArrays {
  const { numRows, inputsLength, targetsLength } = shape;
  let offset = slot * slotBytes(shape);
  const view = (length: number): Int32Array => {
    const array = new Int32Array(ring, offset, numRows * length);
    offset += array.byteLength;
    return array;
  };
  return {
    ...shape,
    encoderInputIds: view(inputsLength),
    encoderSegmentIds: view(inputsLength),
    decoderInputIds: view(targetsLength),
    decoderSegmentIds: view(targetsLength),
    labels: view(targetsLength),
    taskOfTarget: view(targetsLength),
  };
}

function slotBytes({ numRows, inputsLength, targetsLength }: BatchShape): number {
  return 4 * numRows * (2 * inputsLength + 4 * targetsLength);
}
