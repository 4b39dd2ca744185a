/** Runs a call that must leave as many tfjs tensors as it found. */
import * as tf from '@tensorflow/tfjs';
import { TrainerError } from '../../shared/errors.ts';

/** @throws TENSOR_LEAK, and as `run` does */
export function leavingNoTensors<T>(what: string, run: () => T): T {
  const before = tf.memory();
  const result = run();
  const after = tf.memory();
  if (after.numTensors === before.numTensors && after.numBytes === before.numBytes) return result;
  throw new TrainerError(
    'TENSOR_LEAK',
    `${what}: ${before.numTensors} tensors of ${before.numBytes} B before, ` +
      `${after.numTensors} of ${after.numBytes} B after; a bug of exmix: report it`,
  );
}
