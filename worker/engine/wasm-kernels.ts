/**
 * Replaces kernels of tfjs's wasm backend that are missing or slow, in one place, so that the model is written in plain operations.
 *
 * - BatchMatMul: the stock kernel uses the fast XNNPACK product only for one untransposed pair of matrices (20–25 GFLOP/s on one 3 GHz core),
 *   and plain loops for batches and transposes (1.3–2.2). Here every product is made of untransposed XNNPACK products: sides are transposed
 *   first, and each matrix of a batch is given to the stock kernel as a view into the batch's memory.
 * - Sum over an axis that is not the last: stock transposes first; here rows are added up in float64.
 * - Identity copies, and tfjs saves every tensor for the backward pass through it; here memory is shared, as on other backends.
 * - UnsortedSegmentSum does not exist; GatherV2 of rows goes element by element. Here both move whole rows.
 * - OneHot writes integers whatever its dtype; here float32 is written as such.
 * - Dropout's masks (mask-kernels.ts).
 *
 * Everything runs on one thread in a fixed order: the same bits each time.
 */
import * as tf from '@tensorflow/tfjs';
import type { KernelConfig, TensorInfo } from '@tensorflow/tfjs';
import { TrainerError } from '../../shared/errors.ts';
import { registerMaskKernel } from './mask-kernels.ts';
import { addressOf, openInternals, type WasmInternals } from './wasm-internals.ts';
import { multiplyBatches, type MatrixBatch, type ProductMachine } from './matrix-product.ts';

/** Tensor ids of views; the backend counts its own from 1. */
const VIEW_IDS = { a: 2 ** 30, b: 2 ** 30 + 1, out: 2 ** 30 + 2 } as const;

/**
 * Replaces the stock kernels by those below. The wasm backend must be the current one.
 * @throws ENGINE_UNAVAILABLE for a backend of another version
 */
export function installWasmKernels(): void {
  const internals = openInternals();
  const machine = createMachine(internals);
  replaceKernel('BatchMatMul', ({ inputs, attrs }) => {
    const { a, b } = inputs as { a: TensorInfo; b: TensorInfo };
    const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
    return batchMatMul(internals, machine, a, b, transposeA, transposeB);
  });
  replaceKernel('Sum', ({ inputs, attrs }, stock) => {
    const { x } = inputs as { x: TensorInfo };
    const { axis, keepDims } = attrs as { axis: number | number[]; keepDims: boolean };
    const axes = tf.util.parseAxisParam(axis, x.shape);
    if (axes.length !== 1 || axes[0] === x.shape.length - 1 || x.dtype !== 'float32') return stock();
    return sumOverAxis(internals, x, axes[0]!, keepDims);
  });
  replaceKernel('Identity', ({ inputs }) => {
    const { dataId, shape, dtype } = inputs['x']!;
    internals.incRef(dataId);
    return { dataId, shape, dtype };
  });
  replaceKernel('GatherV2', ({ inputs, attrs }, stock) => {
    const { x, indices } = inputs as { x: TensorInfo; indices: TensorInfo };
    const { axis, batchDims } = attrs as { axis: number; batchDims: number };
    const isRows = axis === 0 && batchDims === 0 && x.dtype === 'float32' && indices.shape.length === 1;
    return isRows ? gatherRows(internals, x, indices) : stock();
  });
  replaceKernel('OneHot', ({ inputs, attrs }, stock) => {
    const { dtype, depth, onValue, offValue } = attrs as {
      dtype: string;
      depth: number;
      onValue: number;
      offValue: number;
    };
    return dtype === 'float32' ? oneHot(internals, inputs['indices']!, depth, onValue, offValue) : stock();
  });
  replaceKernel('UnsortedSegmentSum', ({ inputs, attrs }) => {
    const { x, segmentIds } = inputs as { x: TensorInfo; segmentIds: TensorInfo };
    return segmentSum(internals, x, segmentIds, (attrs as { numSegments: number }).numSegments);
  });
  const rangeOf = (tensor: TensorInfo): [number, number] => {
    const start = addressOf(internals, tensor) / 4;
    return [start, start + tf.util.sizeFromShape(tensor.shape)];
  };
  registerMaskKernel('wasm', {
    makeOutput: (shape) => internals.makeOutput(shape, 'float32'),
    float32s: (tensor) => internals.wasm.HEAPF32.subarray(...rangeOf(tensor)),
    int32s: (tensor) => internals.wasm.HEAP32.subarray(...rangeOf(tensor)),
  });
}

/** Replaces or adds a kernel; `stock` runs the kernel that it replaces. */
function replaceKernel(
  kernelName: string,
  kernel: (args: Parameters<KernelConfig['kernelFunc']>[0], stock: () => TensorInfo) => TensorInfo,
): void {
  const before = tf.getKernel(kernelName, 'wasm') as KernelConfig | undefined;
  if (before !== undefined) tf.unregisterKernel(kernelName, 'wasm');
  tf.registerKernel({
    ...before,
    kernelName,
    backendName: 'wasm',
    kernelFunc: (args) =>
      kernel(args, () => {
        if (before === undefined) throw new TrainerError('INTERNAL', `${kernelName} has no stock kernel`);
        return before.kernelFunc(args) as TensorInfo;
      }),
  });
}

/** The two basic operations, on addresses in the wasm memory. */
function createMachine(internals: WasmInternals): ProductMachine {
  const { tfjs } = internals.wasm;
  const product = internals.wasm.cwrap('BatchMatMul', null, [
    'number',
    'array',
    'number',
    'number',
    'array',
    'number',
    'number',
    'number',
    'number',
  ]);
  return {
    multiply(a, b, out, m, k, n) {
      tfjs.registerTensor(VIEW_IDS.a, m * k, a);
      tfjs.registerTensor(VIEW_IDS.b, k * n, b);
      tfjs.registerTensor(VIEW_IDS.out, m * n, out);
      product(VIEW_IDS.a, shapeBytes([1, m, k]), 3, VIEW_IDS.b, shapeBytes([1, k, n]), 3, 0, 0, VIEW_IDS.out);
      // Also drops the operator that XNNPACK keeps for b, with its packed copy.
      for (const id of [VIEW_IDS.a, VIEW_IDS.b, VIEW_IDS.out]) tfjs.disposeData(id);
    },
    transpose(from, to, rows, columns) {
      transposeBlocks(internals.wasm.HEAPF32, from / 4, to / 4, rows, columns);
    },
    withScratch(numElements, use) {
      const scratch = internals.makeOutput([numElements], 'float32');
      try {
        use(addressOf(internals, scratch));
      } finally {
        internals.disposeData(scratch.dataId);
      }
    },
  };
}

function batchMatMul(
  internals: WasmInternals,
  machine: ProductMachine,
  a: TensorInfo,
  b: TensorInfo,
  transposeA: boolean,
  transposeB: boolean,
): TensorInfo {
  const batchShape = tf.broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const side = (x: TensorInfo, isTransposed: boolean): MatrixBatch => {
    const [rows, columns] = x.shape.slice(-2) as [number, number];
    const count = tf.util.sizeFromShape(x.shape.slice(0, -2));
    return { address: addressOf(internals, x), count, rows, columns, isTransposed };
  };
  const sides = [side(a, transposeA), side(b, transposeB)] as const;
  const m = transposeA ? sides[0].columns : sides[0].rows;
  const n = transposeB ? sides[1].rows : sides[1].columns;
  const out = internals.makeOutput([...batchShape, m, n], 'float32');
  multiplyBatches(machine, sides[0], sides[1], addressOf(internals, out));
  return out;
}

function sumOverAxis(internals: WasmInternals, x: TensorInfo, axis: number, keepDims: boolean): TensorInfo {
  const outer = tf.util.sizeFromShape(x.shape.slice(0, axis));
  const size = x.shape[axis]!;
  const inner = tf.util.sizeFromShape(x.shape.slice(axis + 1));
  const kept = x.shape.flatMap((length, i) => (i !== axis ? [length] : keepDims ? [1] : []));
  const out = internals.makeOutput(kept, 'float32');
  const [from, to] = [addressOf(internals, x) / 4, addressOf(internals, out) / 4];
  const { HEAPF32: heap } = internals.wasm;
  const sums = new Float64Array(inner);
  for (let i = 0; i < outer; i++) {
    sums.fill(0);
    for (let row = 0; row < size; row++) {
      const source = from + (i * size + row) * inner;
      for (let j = 0; j < inner; j++) sums[j]! += heap[source + j]!;
    }
    heap.set(sums, to + i * inner);
  }
  return out;
}

function gatherRows(internals: WasmInternals, x: TensorInfo, indices: TensorInfo): TensorInfo {
  const width = tf.util.sizeFromShape(x.shape.slice(1));
  const out = internals.makeOutput([indices.shape[0]!, ...x.shape.slice(1)], 'float32');
  const [from, to] = [addressOf(internals, x) / 4, addressOf(internals, out) / 4];
  const { HEAPF32: heap } = internals.wasm;
  readIndices(internals, indices, x.shape[0]!).forEach((row, i) => {
    heap.copyWithin(to + i * width, from + row * width, from + (row + 1) * width);
  });
  return out;
}

/** Rows with a negative id are left out, as in TensorFlow. */
function segmentSum(internals: WasmInternals, x: TensorInfo, segmentIds: TensorInfo, numSegments: number): TensorInfo {
  const width = tf.util.sizeFromShape(x.shape.slice(1));
  const out = internals.makeOutput([numSegments, ...x.shape.slice(1)], 'float32');
  const [from, to] = [addressOf(internals, x) / 4, addressOf(internals, out) / 4];
  const { HEAPF32: heap } = internals.wasm;
  heap.fill(0, to, to + numSegments * width);
  readIndices(internals, segmentIds, numSegments, -Infinity).forEach((segment, i) => {
    if (segment < 0) return;
    const source = from + i * width;
    const target = to + segment * width;
    for (let j = 0; j < width; j++) heap[target + j]! += heap[source + j]!;
  });
  return out;
}

/** The row of an index outside [0, depth) is all `offValue`, as in TensorFlow. */
function oneHot(
  internals: WasmInternals,
  indices: TensorInfo,
  depth: number,
  onValue: number,
  offValue: number,
): TensorInfo {
  const out = internals.makeOutput([...indices.shape, depth], 'float32');
  const to = addressOf(internals, out) / 4;
  const values = readIndices(internals, indices, Infinity, -Infinity);
  const { HEAPF32: heap } = internals.wasm;
  heap.fill(offValue, to, to + values.length * depth);
  values.forEach((index, i) => {
    if (index >= 0 && index < depth) heap[to + i * depth + index] = onValue;
  });
  return out;
}

function readIndices(internals: WasmInternals, indices: TensorInfo, bound: number, lowest = 0): Int32Array {
  const start = addressOf(internals, indices) / 4;
  const values = internals.wasm.HEAP32.subarray(start, start + tf.util.sizeFromShape(indices.shape));
  for (const value of values)
    if (value >= bound || value < lowest)
      throw new TrainerError('INTERNAL', `index ${value} is not in [0, ${bound}) of the tensor`);
  return values;
}

function shapeBytes(shape: readonly number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(shape).buffer);
}

/** Transposes in blocks that stay in the first-level cache. Offsets in elements. */
function transposeBlocks(heap: Float32Array, from: number, to: number, rows: number, columns: number): void {
  const block = 16;
  for (let row0 = 0; row0 < rows; row0 += block) {
    const row1 = Math.min(rows, row0 + block);
    for (let column0 = 0; column0 < columns; column0 += block) {
      const column1 = Math.min(columns, column0 + block);
      for (let column = column0; column < column1; column++) {
        let source = from + row0 * columns + column;
        const target = to + column * rows;
        for (let row = row0; row < row1; row++, source += columns) heap[target + row] = heap[source]!;
      }
    }
  }
}
