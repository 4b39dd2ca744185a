/**
 * Replaces and adds kernels of the native backend, in one place.
 *
 * - BatchMatMul of two matrices is TensorFlow's MatMul, not its batched product; for decoding it is our product (kernels/product.cc).
 * - ExpandDims is a reshape: tfjs-node names its type wrongly; eager TensorFlow corrects that, a graph does not.
 * - The fused kernels of the model (fused-kernels.ts) and its fused blocks, whose operations the session addon has (kernels/).
 * - Dropout's masks (model/dropout.ts), by TensorFlow's stateless random numbers.
 * - GatherV2 does not read its indices back to check their range: checkBatch has checked them, and a recorded graph cannot.
 */
import * as tf from '@tensorflow/tfjs';
import type { KernelConfig, NamedAttrMap, Tensor, TensorInfo } from '@tensorflow/tfjs';
import {
  createTensorsTypeOpAttr,
  type NodeJSKernelBackend,
} from '@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js';
import type { TFEOpAttr } from '@tensorflow/tfjs-node-gpu/dist/tfjs_binding.js';
import { FUSED_BLOCKS, FUSED_KERNELS, MASK_KERNEL, usesIndependentRows } from '../../model/fused-kernels.ts';
import { planOf } from '../mask-kernels.ts';
import { NATIVE_BACKEND } from './addon/load-addon.ts';
import { DATA_TYPE } from './recording/graph-def.ts';

type Run = (inputs: Record<string, Tensor>, attrs: NamedAttrMap) => TensorInfo | TensorInfo[];
type AttributeType = 'TF_ATTR_BOOL' | 'TF_ATTR_FLOAT' | 'TF_ATTR_INT' | 'TF_ATTR_TYPE';

let isInstalled = false;

/** Once per process, after loadAddon. */
export function installNativeKernels(backend: NodeJSKernelBackend): void {
  if (isInstalled) return;
  isInstalled = true;
  const attribute = (type: AttributeType, name: string, value: boolean | number): TFEOpAttr =>
    Object.assign(createTensorsTypeOpAttr(name, 'float32'), { type: backend.binding[type], value });
  const flag = (name: string, value: unknown) => attribute('TF_ATTR_BOOL', name, value === true);
  const type = (name: string, value: number) => attribute('TF_ATTR_TYPE', name, value);

  replaceKernel('BatchMatMul', ({ a, b }, { transposeA, transposeB }) => {
    const inputs = [a!, b!];
    const isRowsTimesOutputs = transposeA !== true && transposeB === true && a!.shape.length === 2;
    if (usesIndependentRows() && isRowsTimesOutputs && b!.shape.length === 2)
      return backend.executeSingleOutput(FUSED_BLOCKS.product, [], inputs);
    const T = type('T', DATA_TYPE.float32);
    if (inputs.some(({ shape }) => shape.length !== 2))
      return backend.executeSingleOutput(
        'BatchMatMulV2',
        [T, flag('adj_x', transposeA), flag('adj_y', transposeB)],
        inputs,
      );
    const attributes = [T, flag('transpose_a', transposeA), flag('transpose_b', transposeB)];
    return backend.executeSingleOutput('MatMul', attributes, inputs);
  });
  replaceKernel('ExpandDims', ({ input }, { dim }) => {
    const shape = [...input!.shape];
    const axis = Number(dim);
    shape.splice(axis < 0 ? shape.length + 1 + axis : axis, 0, 1);
    return tf.reshape(input!, shape);
  });
  replaceKernel('GatherV2', ({ x, indices }, { axis }) => {
    const axisTensor = tf.scalar(Number(axis), 'int32');
    const attributes = [
      attribute('TF_ATTR_INT', 'batch_dims', 0),
      type('Tparams', backend.getDTypeInteger(x!.dtype)),
      type('Tindices', DATA_TYPE.int32),
      type('Taxis', DATA_TYPE.int32),
    ];
    const rows = backend.executeSingleOutput('GatherV2', attributes, [x!, indices!, axisTensor]);
    axisTensor.dispose();
    return rows;
  });
  addFusedKernels(backend, type);
  addMasks(backend, type);
  addFusedBlocks(backend, (name, value) => attribute('TF_ATTR_FLOAT', name, value));
}

/** One operation of TensorFlow each. */
function addFusedKernels(backend: NodeJSKernelBackend, type: (name: string, value: number) => TFEOpAttr): void {
  const T = type('T', DATA_TYPE.float32);
  replaceKernel(FUSED_KERNELS.halfSumOfSquares, ({ x }) => backend.executeSingleOutput('L2Loss', [T], [x!]));
  replaceKernel(FUSED_KERNELS.softmaxCrossEntropy, ({ logits, labels }) =>
    backend.executeMultipleOutputs(
      'SparseSoftmaxCrossEntropyWithLogits',
      [T, type('Tlabels', DATA_TYPE.int32)],
      [logits!, labels!],
      2,
    ),
  );
  replaceKernel(FUSED_KERNELS.addAt, ({ x, indices, values }) => {
    const places_M1 = tf.reshape(indices!, [indices!.size, 1]);
    const attributes = [T, type('Tindices', DATA_TYPE.int32)];
    const sum = backend.executeSingleOutput('TensorScatterAdd', attributes, [x!, places_M1, values!]);
    places_M1.dispose();
    return sum;
  });
}

/** Each row's words from its own seed, one operation a row. */
function addMasks(backend: NodeJSKernelBackend, type: (name: string, value: number) => TFEOpAttr): void {
  const int32s = ['dtype', 'T', 'Tseed'].map((name) => type(name, DATA_TYPE.int32));
  replaceKernel(MASK_KERNEL, ({ x, keys_B2 }, attributes) =>
    tf.tidy(() => {
      const { site, threshold, scale, length, inner } = planOf(attributes);
      const numRows = keys_B2!.shape[0];
      const numWords = x!.size / numRows / length;
      const shape = tf.tensor1d([numWords], 'int32');
      const place = tf.tensor1d([0, site], 'int32');
      const words = Array.from({ length: numRows }, (_, row) => {
        const seed = tf.add(tf.reshape(tf.slice(keys_B2!, [row, 0], [1, 2]), [2]), place);
        return backend.executeSingleOutput('StatelessRandomUniformFullInt', int32s, [shape, seed]);
      });
      const isKept = tf.greaterEqual(tf.concat(words), tf.scalar(threshold, 'int32'));
      const mask = tf.mul(tf.cast(isKept, 'float32'), scale);
      const outer = numWords / inner;
      const product = tf.mul(
        tf.reshape(x!, [numRows, outer, length, inner]),
        tf.reshape(mask, [numRows, outer, 1, inner]),
      );
      return tf.reshape(product, x!.shape);
    }),
  );
}

const NUM_OUTPUTS: Readonly<Record<keyof typeof FUSED_BLOCKS, number>> = {
  rmsNorm: 1,
  rmsNormGradient: 2,
  geluTimes: 1,
  geluTimesGradient: 2,
  biasedSoftmax: 1,
  softmaxGradient: 1,
  crossEntropy: 2,
  crossEntropyGradient: 1,
  adafactorFactored: 3,
  adafactorWhole: 2,
  adamw: 3,
  adamwRms: 3,
  multiplyByMask: 1,
  product: 1,
  cachedAttention: 1,
  likeliestTokens: 4,
};

/** An operation each: its inputs are given in their order, and its attributes are numbers. */
function addFusedBlocks(backend: NodeJSKernelBackend, float: (name: string, value: number) => TFEOpAttr): void {
  for (const [block, op] of Object.entries(FUSED_BLOCKS) as [keyof typeof FUSED_BLOCKS, string][])
    replaceKernel(op, (inputs, attributes) => {
      if (block === 'multiplyByMask') return fusedMask(backend, op, inputs, attributes);
      const floats = Object.entries(attributes).map(([name, value]) => float(name, Number(value)));
      return backend.executeMultipleOutputs(op, floats, Object.values(inputs), NUM_OUTPUTS[block]);
    });
}

/** Numbers of a plan are inputs: they are exact as int32. */
function fusedMask(
  backend: NodeJSKernelBackend,
  op: string,
  { x, keys_B2 }: Record<string, Tensor>,
  attributes: NamedAttrMap,
): TensorInfo {
  const { site, threshold, scale, length, inner } = planOf(attributes);
  const numbers = tf.tensor1d([site, threshold, length, inner], 'int32');
  const factor = tf.scalar(scale, 'float32');
  const product = backend.executeSingleOutput(op, [], [x!, keys_B2!, numbers, factor]);
  tf.dispose([numbers, factor]);
  return product;
}

/** Or adds one where there is none. */
function replaceKernel(kernelName: string, run: Run): void {
  const before = tf.getKernel(kernelName, NATIVE_BACKEND) as KernelConfig | undefined;
  if (before !== undefined) tf.unregisterKernel(kernelName, NATIVE_BACKEND);
  tf.registerKernel({
    kernelName,
    backendName: NATIVE_BACKEND,
    kernelFunc: ({ inputs, attrs }) => run(inputs as Record<string, Tensor>, attrs ?? {}),
  });
}
