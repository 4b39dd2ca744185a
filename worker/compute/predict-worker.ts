/** This worker's prediction of its step time and memory, before its first step: measures the engine's kernels in the run's shapes, about 0.25 s. */
import type { RunConfig } from '../../shared/config/schema.ts';
import { enterBackendOf, timeKernels } from '../engine/time-kernels.ts';
import { predictStep } from '../model/predict-step.ts';
import { stepMemory, workerMemory } from '../model/step-memory.ts';

export interface WorkerPrediction {
  /** Forward and backward pass of one microbatch. */
  readonly microbatchMs: number;
  readonly updateMs: number;
  /** Memory of the process; assumes `cluster.minWorkers` workers. */
  readonly workerBytes: number;
}

/** @param engineName of an engine that is open and idle */
export async function predictWorker(
  { model, featureLengths, training, optimizer, cluster }: RunConfig,
  engineName: string,
): Promise<WorkerPrediction> {
  const { inputs: inputsLength, targets: targetsLength } = featureLengths;
  const hasDropout = training.dropout.rate > 0;
  const shape = { numRows: training.microbatchRows, inputsLength, targetsLength, hasDropout };
  const retention = engineName === 'native' ? 'recorded' : 'eager';
  const keeping = { optimizer: optimizer.kind, retention } as const;
  await enterBackendOf(engineName);
  const { microbatchMs, updateMs } = predictStep(model, shape, timeKernels(model, shape), keeping);
  const numLanes = Math.ceil(training.numLanes / cluster.minWorkers);
  const workerBytes = Math.round(workerMemory(stepMemory(model, shape, keeping), numLanes, retention));
  return { microbatchMs, updateMs, workerBytes };
}
