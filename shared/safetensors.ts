/**
 * Safetensors files: eight bytes (little-endian length of the header), a JSON header, the tensors back to back.
 * Source: github.com/huggingface/safetensors, "Format". Assumes a little-endian machine, as everything tfjs runs on is.
 *
 * | bytes         | what                                                                                              |
 * |---------------|---------------------------------------------------------------------------------------------------|
 * | 8             | N, uint64: length of the header, at most MAX_HEADER_BYTES                                           |
 * | N             | UTF-8 JSON: name → {dtype, shape, data_offsets: [begin, end)}, and `__metadata__`: string → string  |
 * | rest          | data; the tensors cover it exactly, without gap or overlap                                          |
 *
 * A file may be a stranger's: no key comes twice (JSON.parse would keep the last, other readers the first), and memory is allocated only
 * for tensors that the caller wants, after the header agrees with the size of the file.
 *
 * The writer makes the same bytes for the same tensors in any order: larger elements first, so that every tensor is aligned, then by
 * name. Spaces pad the header to a multiple of 8.
 */
import type { FileHandle } from 'node:fs/promises';
import { toStorageError, withFile, withRegularFile } from './atomic-file.ts';
import { assertInvariant, TrainerError } from './errors.ts';
import { findDuplicateKey } from './json-keys.ts';

/** Bytes of one element. */
const DTYPE_BYTES = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

export type SafeDtype = keyof typeof DTYPE_BYTES;

/** A tensor as the header states it. */
export interface TensorFacts {
  readonly name: string;
  readonly dtype: SafeDtype;
  readonly shape: readonly number[];
}

export interface SafeTensor extends TensorFacts {
  /** Row-major, little-endian; exactly the bytes of the shape. */
  readonly data: Uint8Array;
}

export interface SafetensorsFile {
  readonly metadata: Record<string, string>;
  /** In the order of the data; those that were wanted. */
  readonly tensors: Map<string, SafeTensor>;
}

/** Some 100,000 tensors. The reference implementation allows 100 MB, which JSON.parse turns into a gigabyte. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
/** Largest tensor: the longest Buffer of the oldest Node that exmix runs on. */
const MAX_TENSOR_BYTES = 4_294_967_295;
/** Most dimensions of a tensor. */
const MAX_DIMENSIONS = 32;
/** Most bytes of one read or write call: larger calls fail on some systems. */
const MAX_TRANSFER_BYTES = 64 * 1024 * 1024;

interface Placement extends TensorFacts {
  readonly begin: number;
  readonly end: number;
}

/**
 * Reads a file, each tensor into memory of its own.
 * @param wants decides by the header whether a tensor is read; default: all are
 * @throws SAFETENSORS_INVALID for anything but a whole, valid file; PATH_UNUSABLE if it cannot be read
 */
export async function readSafetensors(
  path: string,
  wants: (tensor: TensorFacts) => boolean = () => true,
): Promise<SafetensorsFile> {
  try {
    return await withRegularFile(path, (file, { size }) => readWanted(file, path, size, wants));
  } catch (error) {
    throw toStorageError(error, 'read', path);
  }
}

async function readWanted(
  file: FileHandle,
  path: string,
  size: number,
  wants: (tensor: TensorFacts) => boolean,
): Promise<SafetensorsFile> {
  if (size < 8) throw invalid(path, `expected at least 8 B, found ${size} B`);
  const headerBytes = (await readBytes(file, path, 0, 8)).readBigUInt64LE();
  if (headerBytes > BigInt(size - 8))
    throw invalid(path, `header of ${headerBytes.toString()} B does not fit a file of ${size} B`);
  if (headerBytes > BigInt(MAX_HEADER_BYTES))
    throw invalid(path, `expected a header of at most ${MAX_HEADER_BYTES} B, found ${headerBytes.toString()} B`);
  const dataStart = 8 + Number(headerBytes);
  const header = await readBytes(file, path, 8, Number(headerBytes));
  const { metadata, placements } = parseHeader(header, path, size - dataStart);

  const tensors = new Map<string, SafeTensor>();
  for (const { name, dtype, shape, begin, end } of placements) {
    if (!wants({ name, dtype, shape })) continue;
    const data = await readBytes(file, path, dataStart + begin, end - begin);
    tensors.set(name, { name, dtype, shape, data });
  }
  return { metadata, tensors };
}

/**
 * Writes and fsyncs one file, not its folder; the caller publishes it by rename. The data is not copied.
 * @param metadata goes into `__metadata__`; Transformers requires `format: 'pt'`
 * @throws DISK_FULL, PATH_UNUSABLE; INTERNAL for two tensors of one name, or data that does not fit the shape
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly SafeTensor[],
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  const ordered = [...tensors].sort(byAlignmentThenName);
  const header: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  header['__metadata__'] = Object.fromEntries(Object.entries(metadata).sort(([a], [b]) => compareNames(a, b)));
  let offset = 0;
  for (const { name, dtype, shape, data } of ordered) {
    assertInvariant(!(name in header), `two tensors named ${name} for ${path}`);
    const bytes = byteLength(dtype, shape);
    assertInvariant(bytes <= MAX_TENSOR_BYTES, `${name}: ${bytes} B, a tensor has at most ${MAX_TENSOR_BYTES} B`);
    assertInvariant(bytes === data.byteLength, `${name}: shape needs ${bytes} B, data has ${data.byteLength} B`);
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = Buffer.from(JSON.stringify(header), 'utf8');
  const padded = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - 8));
  text.copy(padded, 8);

  try {
    await withFile(path, 'w', async (file) => {
      await writeBytes(file, padded);
      for (const { data } of ordered) await writeBytes(file, data);
      await file.sync();
    });
  } catch (error) {
    throw toStorageError(error, `write ${padded.length + offset} B to`, path);
  }
}

/** F32 as it is (without a copy if aligned), BF16 and F16 widened exactly. @throws SAFETENSORS_INVALID for other dtypes */
export function asFloat32(tensor: SafeTensor): Float32Array {
  if (tensor.dtype === 'F32') {
    const { buffer, byteOffset, byteLength: bytes } = alignedTo(4, tensor.data);
    return new Float32Array(buffer, byteOffset, bytes / 4);
  }
  if (tensor.dtype === 'BF16') {
    const { buffer, byteOffset, byteLength: bytes } = alignedTo(2, tensor.data);
    const words = Uint32Array.from(new Uint16Array(buffer, byteOffset, bytes / 2), (half) => half << 16);
    return new Float32Array(words.buffer);
  }
  if (tensor.dtype === 'F16') {
    const { buffer, byteOffset, byteLength: bytes } = alignedTo(2, tensor.data);
    return Float32Array.from(new Uint16Array(buffer, byteOffset, bytes / 2), widenHalf);
  }
  throw new TrainerError('SAFETENSORS_INVALID', `${tensor.name}: expected F32, BF16 or F16, found ${tensor.dtype}`);
}

/** The value of an IEEE 754 binary16: sign, 5 bits of exponent, 10 of fraction. */
function widenHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** @throws SAFETENSORS_INVALID for other dtypes than I32 */
export function asInt32(tensor: SafeTensor): Int32Array {
  if (tensor.dtype !== 'I32')
    throw new TrainerError('SAFETENSORS_INVALID', `${tensor.name}: expected I32, found ${tensor.dtype}`);
  const { buffer, byteOffset, byteLength: bytes } = alignedTo(4, tensor.data);
  return new Int32Array(buffer, byteOffset, bytes / 4);
}

/** A Float32Array as the F32 tensor of that name and shape; shares its memory. */
export function float32Tensor(name: string, shape: readonly number[], values: Float32Array): SafeTensor {
  return { name, dtype: 'F32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** Precisions of parameters. */
export type FloatDtype = 'F32' | 'BF16' | 'F16';

/**
 * A Float32Array as a tensor of that precision, rounded to the nearest, ties to even. F32 shares its memory.
 * @throws CONFIG_INVALID for a value beyond the largest of the precision, or one that is not finite
 */
export function narrowedTensor(
  name: string,
  shape: readonly number[],
  values: Float32Array,
  dtype: FloatDtype,
): SafeTensor {
  if (dtype === 'F32') return float32Tensor(name, shape, values);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const narrow = dtype === 'BF16' ? narrowToBfloat16 : narrowToHalf;
  const infinity = dtype === 'BF16' ? 0x7f80 : 0x7c00;
  const words = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    words[i] = narrow(bits[i]!);
    if ((words[i]! & infinity) === infinity || !Number.isFinite(values[i]))
      throw new TrainerError(
        'CONFIG_INVALID',
        `${name}: value ${i} is ${values[i]!}, beyond ${dtype === 'BF16' ? 'bfloat16' : 'float16, whose largest is 65504: take bfloat16'}`,
      );
  }
  return { name, dtype, shape, data: new Uint8Array(words.buffer) };
}

/** The upper half of a binary32, rounded by what the lower half was; not for a NaN, whose sum overflows. */
function narrowToBfloat16(bits: number): number {
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** A binary32 to a binary16: 8 to 5 bits of exponent, 23 to 10 of fraction. */
function narrowToHalf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude >= 0x4780_0000) return sign | 0x7c00; // 65536 and above
  if (magnitude >= 0x3880_0000) {
    // A normal number: the exponent loses 112 of its bias. A carry out of the fraction goes into the exponent, as it should.
    const shifted = magnitude - 0x3800_0000;
    return sign | ((shifted + 0x0fff + ((shifted >>> 13) & 1)) >>> 13);
  }
  // A subnormal: a multiple of 2^-24. Below 2^-25, and at it by the tie, it is 0.
  const exponent = magnitude >>> 23;
  if (exponent < 102) return sign;
  const fraction = (magnitude & 0x7f_ffff) | 0x80_0000;
  const drop = 126 - exponent; // bits below 2^-24: 14 to 24
  const kept = fraction >>> drop;
  const rest = fraction & ((1 << drop) - 1);
  const half = 1 << (drop - 1);
  return sign | (rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept);
}

function parseHeader(
  header: Buffer,
  path: string,
  dataBytes: number,
): { metadata: Record<string, string>; placements: Placement[] } {
  let text: string;
  let parsed: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(header);
    parsed = JSON.parse(text);
  } catch (error) {
    throw invalid(path, `the header is not JSON`, error);
  }
  if (!isRecord(parsed)) throw invalid(path, 'the header is not a JSON object');

  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) throw invalid(path, `the header has ${named(duplicate)} twice`);

  let metadata: Record<string, string> = {};
  const placements: Placement[] = [];
  for (const [name, entry] of Object.entries(parsed)) {
    if (name !== '__metadata__') placements.push(parsePlacement(name, entry, path));
    else if (isRecord(entry) && Object.values(entry).every((value) => typeof value === 'string'))
      metadata = entry as Record<string, string>;
    else throw invalid(path, '__metadata__ is not a map of strings');
  }
  placements.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const { name, begin, end } of placements) {
    if (begin !== covered) throw invalid(path, `${named(name)}: expected to begin at byte ${covered}, found ${begin}`);
    covered = end;
  }
  if (covered !== dataBytes) throw invalid(path, `tensors cover ${covered} B, the file holds ${dataBytes} B of data`);
  return { metadata, placements };
}

function parsePlacement(name: string, entry: unknown, path: string): Placement {
  const place = named(name);
  if (!isRecord(entry)) throw invalid(path, `${place}: not an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string') throw invalid(path, `${place}: dtype is not text`);
  if (!isDtype(dtype)) throw invalid(path, `${place}: unknown dtype ${named(dtype)}`);
  if (!isSizes(shape)) throw invalid(path, `${place}: shape is not a list of sizes`);
  if (shape.length > MAX_DIMENSIONS)
    throw invalid(path, `${place}: expected at most ${MAX_DIMENSIONS} dimensions, found ${shape.length}`);
  if (!isSizes(offsets) || offsets.length !== 2) throw invalid(path, `${place}: data_offsets is not [begin, end]`);
  const [begin, end] = offsets as [number, number];
  const bytes = byteLength(dtype, shape);
  if (end - begin !== bytes)
    throw invalid(
      path,
      `${place}: ${dtype} [${shape.join(', ')}] needs ${bytes} B, data_offsets give ${end - begin} B`,
    );
  if (bytes > MAX_TENSOR_BYTES)
    throw invalid(path, `${place}: expected at most ${MAX_TENSOR_BYTES} B, found ${bytes} B`);
  return { name, dtype, shape, begin, end };
}

/** Allocates new memory, so that typed views of any element size are aligned. */
async function readBytes(file: FileHandle, path: string, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.from(new ArrayBuffer(length));
  let done = 0;
  while (done < length) {
    const wanted = Math.min(MAX_TRANSFER_BYTES, length - done);
    const { bytesRead } = await file.read(bytes, done, wanted, position + done);
    if (bytesRead === 0) throw invalid(path, `ends at byte ${position + done}, expected ${length - done} B more`);
    done += bytesRead;
  }
  return bytes;
}

async function writeBytes(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(MAX_TRANSFER_BYTES, bytes.byteLength - done));
    done += bytesWritten;
  }
}

function byteLength(dtype: SafeDtype, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
}

function alignedTo(elementBytes: number, data: Uint8Array): Uint8Array {
  return data.byteOffset % elementBytes === 0 ? data : Uint8Array.from(data);
}

function byAlignmentThenName(a: SafeTensor, b: SafeTensor): number {
  return DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype] || compareNames(a.name, b.name);
}

function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isDtype(text: string): text is SafeDtype {
  return Object.hasOwn(DTYPE_BYTES, text);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** A name of a file, for messages: visible and of bounded length. */
function named(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
}

function invalid(path: string, problem: string, cause?: unknown): TrainerError {
  const message = `${path}: not a valid safetensors file: ${problem}; the file is damaged or of another kind`;
  return new TrainerError('SAFETENSORS_INVALID', message, { cause });
}
