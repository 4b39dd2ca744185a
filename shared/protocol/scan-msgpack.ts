/**
 * Scans msgpack before it is decoded, in one pass and without memory: maps with string keys, arrays, strings, bytes, integers of at most 32
 * bits, finite floats, booleans and nil, as msgpackr encodes plain values. Everything else is refused: extensions (which msgpackr decodes
 * to dates, sets, typed arrays and references), integers of 64 bits (BigInt), other keys, and more values or depth than the bound. So the
 * cost of decoding is known before it begins. Pure. Format: https://github.com/msgpack/msgpack/blob/master/spec.md
 */
import { TrainerError } from '../errors.ts';

export interface ScanBounds {
  /** Maps and arrays inside each other. */
  readonly maxDepth: number;
  /** Values and keys. */
  readonly maxElements: number;
}

export interface Scanned {
  /** Text of the field `kind` of the outermost map; '' without one. */
  readonly kind: string;
  readonly numElements: number;
}

const KIND = Buffer.from('kind');
/** A longer text is no kind. */
const MAX_KIND_BYTES = 32;

/** @throws MESSAGE_INVALID with the place of the first byte that is not allowed */
export function scanMsgpack(bytes: Uint8Array, { maxDepth, maxElements }: ScanBounds): Scanned {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numBytes = bytes.byteLength;
  /** Values that are still to come, by depth; keys of maps count. */
  const left = new Float64Array(maxDepth + 1);
  const isMap = new Uint8Array(maxDepth + 1);
  let depth = 0;
  let at = 0;
  let numElements = 0;
  let kind = '';
  let hasKind = false;
  let isKindNext = false;
  left[0] = 1;

  const refuse = (expected: string): TrainerError =>
    new TrainerError('MESSAGE_INVALID', `a control message of ${numBytes} B: expected ${expected} at byte ${at}`);
  /** Reads a length of so many bytes. */
  const lengthOf = (width: number): number => {
    if (at + width > numBytes) throw refuse('the end of no value');
    const length = width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at) : view.getUint32(at);
    at += width;
    return length;
  };
  const skip = (length: number): void => {
    if (length > numBytes - at) throw refuse(`${length} B more, the message ends before`);
    at += length;
  };
  const enter = (length: number, map: 0 | 1): void => {
    const numInside = map === 1 ? 2 * length : length;
    // Each takes a byte at least.
    if (numInside > numBytes - at) throw refuse(`${numInside} values more, the message ends before`);
    if (depth === maxDepth) throw refuse(`at most ${maxDepth} maps and arrays inside each other`);
    depth++;
    left[depth] = numInside;
    isMap[depth] = map;
  };
  const text = (length: number, isKey: boolean, isKind: boolean): void => {
    const from = at;
    skip(length);
    if (depth !== 1 || isMap[1] !== 1) return;
    if (isKind && length <= MAX_KIND_BYTES)
      kind = Buffer.from(bytes.buffer, bytes.byteOffset + from, length).toString('latin1');
    if (!isKey || length !== KIND.length || KIND.compare(bytes, from, at) !== 0) return;
    if (hasKind) throw refuse('one field kind');
    hasKind = true;
    isKindNext = true;
  };

  for (;;) {
    while (left[depth] === 0) {
      if (depth === 0) {
        if (at < numBytes) throw refuse('the end of the message');
        return { kind, numElements };
      }
      depth--;
    }
    if (at >= numBytes) throw refuse('another value, the message ends before');
    if (++numElements > maxElements) throw refuse(`at most ${maxElements} values`);
    const isKey = isMap[depth] === 1 && left[depth]! % 2 === 0;
    const isKind: boolean = isKindNext;
    isKindNext = false;
    left[depth]!--;
    const byte = bytes[at++]!;
    if (byte >= 0xa0 && byte <= 0xbf) text(byte & 0x1f, isKey, isKind);
    else if (byte === 0xd9) text(lengthOf(1), isKey, isKind);
    else if (byte === 0xda) text(lengthOf(2), isKey, isKind);
    else if (byte === 0xdb) text(lengthOf(4), isKey, isKind);
    else if (isKey) {
      at--;
      throw refuse('a text as key of a map');
    } else if (byte <= 0x7f || byte >= 0xe0 || byte === 0xc0 || byte === 0xc2 || byte === 0xc3) continue;
    else if (byte <= 0x8f) enter(byte & 0x0f, 1);
    else if (byte <= 0x9f) enter(byte & 0x0f, 0);
    else if (byte === 0xcc || byte === 0xd0) skip(1);
    else if (byte === 0xcd || byte === 0xd1) skip(2);
    else if (byte === 0xce || byte === 0xd2) skip(4);
    else if (byte === 0xca || byte === 0xcb) {
      const width = byte === 0xca ? 4 : 8;
      skip(width);
      if (!Number.isFinite(width === 4 ? view.getFloat32(at - 4) : view.getFloat64(at - 8)))
        throw refuse('a finite number');
    } else if (byte === 0xc4) skip(lengthOf(1));
    else if (byte === 0xc5) skip(lengthOf(2));
    else if (byte === 0xc6) skip(lengthOf(4));
    else if (byte === 0xdc) enter(lengthOf(2), 0);
    else if (byte === 0xdd) enter(lengthOf(4), 0);
    else if (byte === 0xde) enter(lengthOf(2), 1);
    else if (byte === 0xdf) enter(lengthOf(4), 1);
    else {
      at--;
      throw refuse(`a plain value, got the type 0x${byte.toString(16)}`);
    }
  }
}
