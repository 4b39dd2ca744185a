/** The options of a session as TensorFlow's ConfigProto message. Source: config.proto of TensorFlow 2.21. */
import { ProtobufWriter } from '../recording/protobuf-writer.ts';

export interface SessionConfig {
  /**
   * Threads of one operation, which decide its bits. As many operations run at a time, but at least two: one alone follows the backward
   * pass to its end before it hands out any gradient.
   */
  readonly numThreads: number;
  /** Whether clusters of operations are compiled with XLA. */
  readonly xla: boolean;
}

const GLOBAL_JIT_LEVEL = { off: -1, on: 2 } as const;

export function sessionConfig({ numThreads, xla }: SessionConfig): Uint8Array {
  const jitLevel = xla ? GLOBAL_JIT_LEVEL.on : GLOBAL_JIT_LEVEL.off;
  const graphOptions = new ProtobufWriter().message(3, new ProtobufWriter().integer(5, jitLevel));
  const gpuOptions = new ProtobufWriter().integer(4, true); // allow_growth
  return new ProtobufWriter()
    .integer(2, numThreads) // intra_op_parallelism_threads
    .integer(5, Math.max(2, numThreads)) // inter_op_parallelism_threads
    .message(6, gpuOptions)
    .message(10, graphOptions)
    .finish();
}
