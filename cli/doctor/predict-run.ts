/**
 * Predicts time and memory of a run on this host from measured rates. Pure. Assumes that each worker is as fast as one process alone.
 * Counts communication in full, though part of it overlaps with the backward pass.
 */
import type { RunConfig } from '../../shared/config/schema.ts';
import { largestFittingMicrobatch, stepMemory, workerMemory, type Retention } from '../../worker/model/step-memory.ts';
import { predictStep, type Rates } from '../../worker/model/predict-step.ts';
import { formatBytes, formatDuration, type Finding } from './finding.ts';

export interface HostFigures {
  readonly rates: Rates;
  readonly retention: Retention;
  readonly numWorkers: number;
  /** Threads that are busy when all workers compute. */
  readonly numThreads: number;
  readonly numCores: number;
  readonly availableBytes: number;
  /** Memory limit of one engine; undefined if only the machine limits it. */
  readonly engineLimitBytes: number | undefined;
  readonly diskBytesPerSecond: number;
  readonly loopbackBytesPerSecond: number;
}

export interface RunPrediction {
  readonly computeSeconds: number;
  readonly communicateSeconds: number;
  readonly updateSeconds: number;
  readonly stepSeconds: number;
  readonly tokensPerSecond: number;
  readonly runSeconds: number;
  /** For one worker, like `workerBytes`. */
  readonly engineBytes: number;
  readonly workerBytes: number;
  /** In the engine; part of `engineBytes`. */
  readonly optimizerBytes: number;
  readonly checkpointBytes: number;
  readonly checkpointSeconds: number;
}

export function predictRun(config: RunConfig, host: HostFigures): RunPrediction {
  const { model, training, featureLengths } = config;
  const { numLanes, rowsPerStep, microbatchRows } = training;
  const { inputs: inputsLength, targets: targetsLength } = featureLengths;
  const shape = { numRows: microbatchRows, inputsLength, targetsLength, hasDropout: training.dropout.rate > 0 };
  const keeping = { optimizer: config.optimizer.kind, retention: host.retention };
  const { microbatchMs, updateMs } = predictStep(model, shape, host.rates, keeping);
  const lanes = Math.ceil(numLanes / host.numWorkers);
  const crowding = Math.max(1, host.numThreads / host.numCores);
  const computeSeconds = (crowding * microbatchMs * lanes * (rowsPerStep / numLanes / microbatchRows)) / 1000;
  const updateSeconds = (crowding * updateMs) / 1000;
  const memory = stepMemory(model, shape, keeping);
  const others = host.numWorkers - 1;
  const sentBytes = training.gradientPrecision === 'bfloat16' ? memory.gradientBytes / 2 : memory.gradientBytes;
  // Every worker sends 2·(N−1)/N of the gradient, all over one loopback.
  const communicateSeconds = (2 * others * sentBytes) / host.loopbackBytesPerSecond;
  const stepSeconds = computeSeconds + communicateSeconds + updateSeconds;
  const snapshotBytes = memory.parameterBytes + memory.optimizerBytes;
  return {
    computeSeconds,
    communicateSeconds,
    updateSeconds,
    stepSeconds,
    tokensPerSecond: (rowsPerStep * (shape.inputsLength + shape.targetsLength)) / stepSeconds,
    runSeconds: training.steps * stepSeconds,
    engineBytes: memory.totalBytes,
    workerBytes: workerMemory(memory, lanes, host.retention),
    optimizerBytes: memory.optimizerBytes,
    checkpointBytes: snapshotBytes,
    checkpointSeconds: snapshotBytes / host.diskBytesPerSecond,
  };
}

/** Formats the prediction, with advice if the run does not fit. */
export function judgePrediction(config: RunConfig, host: HostFigures): Finding[] {
  const prediction = predictRun(config, host);
  const { computeSeconds, communicateSeconds, updateSeconds, stepSeconds } = prediction;
  const workers = `${host.numWorkers} worker${host.numWorkers === 1 ? '' : 's'}`;
  const step: Finding = {
    check: 'step',
    status: 'ok',
    detail:
      `${config.name} with ${workers}: about ${formatDuration(stepSeconds)} a step ` +
      `(compute ${formatDuration(computeSeconds)}, communicate at most ${formatDuration(communicateSeconds)}, update ${formatDuration(updateSeconds)}), ` +
      `${Math.round(prediction.tokensPerSecond)} tokens/s padding included, ${config.training.steps} steps in ${formatDuration(prediction.runSeconds)}`,
    figures: { stepSeconds, computeSeconds, communicateSeconds, updateSeconds, runSeconds: prediction.runSeconds },
  };
  const { checkpointBytes, checkpointSeconds } = prediction;
  const checkpoint: Finding = {
    check: 'checkpoint',
    status: 'ok',
    detail: `${formatBytes(checkpointBytes)}, about ${formatDuration(checkpointSeconds)}, while training continues`,
    figures: { checkpointBytes, checkpointSeconds },
  };
  return [step, judgeFit(config, host, prediction), checkpoint];
}

function judgeFit(config: RunConfig, host: HostFigures, prediction: RunPrediction): Finding {
  const { engineBytes, workerBytes, optimizerBytes } = prediction;
  const { numWorkers, availableBytes, engineLimitBytes = Infinity, retention } = host;
  const limit = Number.isFinite(engineLimitBytes) ? ` (at most ${formatBytes(engineLimitBytes)})` : '';
  const detail =
    `about ${formatBytes(workerBytes)} a worker, ${formatBytes(engineBytes)} of it in the engine${limit}, ` +
    `${formatBytes(optimizerBytes)} of that the state of ${config.optimizer.kind}; ${formatBytes(availableBytes)} available`;
  const finding = { check: 'fit', detail, figures: { workerBytes, engineBytes, optimizerBytes } };
  const fitsEngine = engineBytes <= engineLimitBytes;
  if (fitsEngine && numWorkers * workerBytes <= availableBytes) return { ...finding, status: 'ok' };
  const { inputs: inputsLength, targets: targetsLength } = config.featureLengths;
  const besides = workerBytes - engineBytes;
  const rows = largestFittingMicrobatch(
    config.model,
    { inputsLength, targetsLength, hasDropout: config.training.dropout.rate > 0 },
    {
      availableBytes: Math.min(engineLimitBytes, availableBytes / numWorkers - besides),
      rowsPerLane: config.training.rowsPerStep / config.training.numLanes,
      optimizer: config.optimizer.kind,
      retention,
    },
  );
  const fewer = numWorkers > 1 ? 'fewer workers, ' : '';
  const advice =
    rows > 0
      ? `--set training.microbatchRows=${rows} would fit (other bits, same batch)`
      : `not even one row fits: ${fewer}a smaller preset, ${fitsEngine ? 'a machine with more memory' : 'the native engine (exmix engine install)'}`;
  return { ...finding, status: 'fail', advice };
}
