/**
 * Dropout's masks in JavaScript, as the kernel MASK_KERNEL of the backends cpu and wasm (model/dropout.ts has the definition; a graph of the
 * native engine has its own).
 */
import * as tf from '@tensorflow/tfjs';
import type { NamedAttrMap, TensorInfo } from '@tensorflow/tfjs';
import { fillPhilox, philox4x32 } from '../../shared/random.ts';
import { MASK_KERNEL, type MaskPlan } from '../model/fused-kernels.ts';

/** The key with which TensorFlow turns a stateless seed into a stream. */
const SEED_KEY = [0x3ec8f720, 0x02461e29] as const;

/** out = x · mask. @param keys two for each row; all rows have equal size */
export function multiplyRows(x: Float32Array, keys: Int32Array, plan: MaskPlan, out: Float32Array): void {
  const { site, threshold, scale, length, inner } = plan;
  const numRows = keys.length / 2;
  const rowSize = x.length / numRows;
  const words = new Int32Array(rowSize / length);
  const stream = new Uint32Array(4);
  for (let row = 0; row < numRows; row++) {
    philox4x32([keys[2 * row]!, 0, keys[2 * row + 1]! + site, 0], SEED_KEY, stream);
    fillPhilox(words, stream[2]!, stream[3]!, stream);
    const end = (row + 1) * rowSize;
    let word = 0; // of the first element in the shared length
    for (let start = row * rowSize; start < end; start += length * inner, word += inner)
      for (let position = start; position < start + length * inner; position += inner)
        for (let i = 0; i < inner; i++)
          out[position + i] = x[position + i]! * (words[word + i]! >= threshold ? scale : 0);
  }
}

/** @param float32s, int32s the memory of a tensor */
export function registerMaskKernel(
  backendName: string,
  memory: {
    readonly makeOutput: (shape: number[]) => TensorInfo;
    readonly float32s: (tensor: TensorInfo) => Float32Array;
    readonly int32s: (tensor: TensorInfo) => Int32Array;
  },
): void {
  tf.registerKernel({
    kernelName: MASK_KERNEL,
    backendName,
    kernelFunc: ({ inputs, attrs }) => {
      const { x, keys_B2: keys } = inputs as { x: TensorInfo; keys_B2: TensorInfo };
      const out = memory.makeOutput([...x.shape]);
      multiplyRows(memory.float32s(x), memory.int32s(keys), planOf(attrs ?? {}), memory.float32s(out));
      return out;
    },
  });
}

/** The attributes of MASK_KERNEL. */
export function planOf(attributes: NamedAttrMap): MaskPlan {
  const number = (name: keyof MaskPlan) => Number(attributes[name]);
  return {
    site: number('site'),
    threshold: number('threshold'),
    scale: number('scale'),
    length: number('length'),
    inner: number('inner'),
  };
}
