/** Config of the simulated run: so small that a step costs microseconds, with short deadlines. */
import { checkConfig } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TOY_FEATURE_LENGTHS, TOY_VOCABULARY } from './toy-mixture.ts';

export const TOY_MODEL = {
  vocabSize: TOY_VOCABULARY,
  dModel: 4,
  dKv: 2,
  dFf: 8,
  numLayers: 1,
  numDecoderLayers: 1,
  numHeads: 2,
  relativeAttentionNumBuckets: 4,
  relativeAttentionMaxDistance: 8,
};

export interface ToyRunOptions {
  readonly steps: number;
  /** Workers at the start; the run continues with one. */
  readonly startWorkers: number;
  readonly checkpointEverySteps?: number;
}

export function createToyConfig({ steps, startWorkers, checkpointEverySteps }: ToyRunOptions): RunConfig {
  const config = {
    name: 'toy',
    seed: 7,
    model: TOY_MODEL,
    featureLengths: TOY_FEATURE_LENGTHS,
    mixture: { path: '/simulated/mixture.yaml', denoisingRatio: 0, windowDraws: 32 },
    training: { steps, rowsPerStep: 8, numLanes: 8, microbatchRows: 1, onNonFinite: 'retry' },
    schedule: { kind: 'inverse-square-root', warmupSteps: 4, scale: 0.1 },
    cluster: {
      listenPort: 1,
      startWorkers,
      rendezvousTimeoutMs: 60_000,
      heartbeatIntervalMs: 1_000,
      heartbeatTimeoutMs: 4_500,
      connectTimeoutMs: 5_000,
      stepTimeoutMs: 30_000,
      coordinatorGraceMs: 60_000,
    },
    // Two buckets of the 2,624 B. A chunk has two frames in a world of two workers, and one in a world of three. Each frame is an event.
    // The window limit is a few frames: the default would need arenas of 64 MiB, which each generation fills with zeros.
    collective: { link: 'message', socket: 'tcp', bucketBytes: 1_408, frameBytes: 512, maxWindowBytes: 1 << 14 },
    checkpoint: checkpointEverySteps === undefined ? {} : { everySteps: checkpointEverySteps },
  };
  return checkConfig(config, 'the simulated run');
}
