/**
 * The layout of the gradient, and the pieces in which it is sent.
 *
 * Definitions. The *flat gradient* holds all parameters in backward order (the gradient that is ready first comes first), float32, each at an
 * offset that is a whole number of cache lines on the wire as well; the padding is always zero. A *bucket* is a range of whole parameters of
 * about `bucketBytes`. A *chunk* is one rank's share of a bucket. A *piece* (part of a chunk) is what one frame carries, its *payload* in
 * the precision of the plan. Layout and buckets depend on parameters and precision alone, so digest and norm are the same for every world
 * size; only chunks and pieces depend on it.
 *
 * Pure. Sizes and offsets are bytes unless the name says elements.
 */
import { TrainerError } from '../../shared/errors.ts';

/** One cache line; the SIMD kernels work on whole ones, in memory and on the wire. */
const ALIGNMENT_BYTES = 64;
const FLOAT_BYTES = 4;

/** Each lane's gradient and each sum of the tree is rounded to this. In memory all are float32; on the wire they have this type. */
export type GradientPrecision = 'float32' | 'bfloat16';

/** Bytes in memory for each byte on the wire. */
const BYTES_PER_WIRE_BYTE: Readonly<Record<GradientPrecision, number>> = { float32: 1, bfloat16: 2 };

export interface ParameterSize {
  readonly name: string;
  readonly numElements: number;
}

export interface PlannedParameter extends ParameterSize {
  readonly offsetBytes: number;
  readonly bucket: number;
}

export interface Bucket {
  readonly index: number;
  readonly startBytes: number;
  readonly endBytes: number;
}

export interface BucketPlan {
  readonly precision: GradientPrecision;
  /** In the order given: backward order. */
  readonly parameters: readonly PlannedParameter[];
  readonly buckets: readonly Bucket[];
  /** Bytes of the flat gradient, whole cache lines. */
  readonly gradientBytes: number;
}

/** Part `part` of the chunk of rank `chunk` of a bucket: bytes [offsetBytes, offsetBytes + byteLength) of the flat gradient. */
export interface Piece {
  readonly bucket: number;
  readonly chunk: number;
  readonly part: number;
  readonly offsetBytes: number;
  readonly byteLength: number;
  /** Bytes on the wire. */
  readonly payloadBytes: number;
}

/** Bytes of the flat gradient for a payload of so many bytes. */
export function widenedBytes(payloadBytes: number, precision: GradientPrecision): number {
  return payloadBytes * BYTES_PER_WIRE_BYTE[precision];
}

/** The next multiple of one cache line on the wire. */
function align(bytes: number, precision: GradientPrecision): number {
  const line = widenedBytes(ALIGNMENT_BYTES, precision);
  return Math.ceil(bytes / line) * line;
}

/**
 * @param parameters sizes in backward order; names are unique
 * @param bucketBytes a bucket is closed when it holds at least this much; a parameter is never split over buckets
 * @throws CONFIG_INVALID
 */
export function planBuckets(
  parameters: readonly ParameterSize[],
  bucketBytes: number,
  precision: GradientPrecision = 'float32',
): BucketPlan {
  if (!Number.isInteger(bucketBytes) || bucketBytes < ALIGNMENT_BYTES)
    throw new TrainerError(
      'CONFIG_INVALID',
      `bucketBytes: expected an integer of at least ${ALIGNMENT_BYTES} B, found ${bucketBytes}`,
    );
  const names = new Set<string>();
  const placed: PlannedParameter[] = [];
  const buckets: Bucket[] = [];
  let startBytes = 0;
  let end = 0;
  for (const { name, numElements } of parameters) {
    if (!Number.isInteger(numElements) || numElements < 1)
      throw new TrainerError('CONFIG_INVALID', `parameter ${name}: expected at least 1 element, found ${numElements}`);
    if (names.has(name))
      throw new TrainerError('CONFIG_INVALID', `parameter ${name}: expected unique names, found two`);
    names.add(name);
    placed.push({ name, numElements, offsetBytes: end, bucket: buckets.length });
    end += align(numElements * FLOAT_BYTES, precision);
    if (end - startBytes >= bucketBytes) {
      buckets.push({ index: buckets.length, startBytes, endBytes: end });
      startBytes = end;
    }
  }
  if (end > startBytes) buckets.push({ index: buckets.length, startBytes, endBytes: end });
  if (buckets.length === 0) throw new TrainerError('CONFIG_INVALID', 'parameters: expected at least one, found none');
  return { precision, parameters: placed, buckets, gradientBytes: end };
}

/**
 * The pieces of every chunk, `pieces[chunk]` in bucket order then part order: the order in which they are sent and reduced.
 * A chunk of a small bucket may be empty for some ranks.
 * @param frameBytes most bytes of one payload, a multiple of ALIGNMENT_BYTES
 * @throws CONFIG_INVALID
 */
export function planPieces(plan: BucketPlan, worldSize: number, frameBytes: number): readonly (readonly Piece[])[] {
  if (!Number.isInteger(frameBytes) || frameBytes < ALIGNMENT_BYTES || frameBytes % ALIGNMENT_BYTES !== 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `frameBytes: expected a positive multiple of ${ALIGNMENT_BYTES} B, found ${frameBytes}`,
    );
  const { precision } = plan;
  const lineBytes = widenedBytes(ALIGNMENT_BYTES, precision);
  const pieceBytes = widenedBytes(frameBytes, precision);
  const pieces: Piece[][] = Array.from({ length: worldSize }, () => []);
  for (const bucket of plan.buckets) {
    const numLines = (bucket.endBytes - bucket.startBytes) / lineBytes;
    for (let chunk = 0; chunk < worldSize; chunk++) {
      const start = bucket.startBytes + Math.floor((numLines * chunk) / worldSize) * lineBytes;
      const end = bucket.startBytes + Math.floor((numLines * (chunk + 1)) / worldSize) * lineBytes;
      const numParts = Math.ceil((end - start) / pieceBytes);
      const partBytes = align((end - start) / Math.max(numParts, 1), precision);
      for (let part = 0; start + part * partBytes < end; part++) {
        const offsetBytes = start + part * partBytes;
        const byteLength = Math.min(partBytes, end - offsetBytes);
        const payloadBytes = byteLength / BYTES_PER_WIRE_BYTE[precision];
        pieces[chunk]!.push({ bucket: bucket.index, chunk, part, offsetBytes, byteLength, payloadBytes });
      }
    }
  }
  return pieces;
}
