/**
 * Replaces and adds kernels of the native backend, in one place.
 *
 * - BatchMatMul of two matrices is TensorFlow's MatMul, not its batched product; for decoding it is our product (kernels/product.cc).
 * - ExpandDims is a reshape: tfjs-node names its type wrongly; eager TensorFlow corrects that, a graph does not.
 * - The fused kernels of the model (fused-kernels.ts) and its fused blocks, whose operations the session addon has (kernels/).
 * - GatherV2 does not read its indices back to check their range: checkBatch has checked them, and a recorded graph cannot.
 */
import * as tf from '@tensorflow/tfjs';
import type { KernelConfig, NamedAttrMap, Tensor, TensorInfo } from '@tensorflow/tfjs';
import {
  createTensorsTypeOpAttr,
  type NodeJSKernelBackend,
} from '@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js';
import type { TFEOpAttr } from '@tensorflow/tfjs-node-gpu/dist/tfjs_binding.js';
import { FUSED_BLOCKS, FUSED_KERNELS, usesIndependentRows } from '../../model/fused-kernels.ts';
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
  product: 1,
  cachedAttention: 1,
  likeliestTokens: 4,
};

/** An operation each: its inputs are given in their order, and its attributes are numbers. */
function addFusedBlocks(backend: NodeJSKernelBackend, float: (name: string, value: number) => TFEOpAttr): void {
  for (const [block, op] of Object.entries(FUSED_BLOCKS) as [keyof typeof FUSED_BLOCKS, string][])
    replaceKernel(op, (inputs, attributes) => {
      const floats = Object.entries(attributes).map(([name, value]) => float(name, Number(value)));
      return backend.executeMultipleOutputs(op, floats, Object.values(inputs), NUM_OUTPUTS[block]);
    });
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
