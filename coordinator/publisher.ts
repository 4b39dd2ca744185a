/** Turns what the workers wrote into a published checkpoint: adds the model's config, the tokenizer and the record of the run. */
import type { Clock } from '../shared/clock.ts';
import { planCheckpoint, type TensorSpec } from '../shared/checkpoint/shard-plan.ts';
import { numericsHash } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { toHuggingFace } from '../shared/model-config.ts';
import { VERSION } from '../shared/version.ts';
import { publishCheckpoint, type PublishedCheckpoint } from './checkpoint/publish.ts';
import type { WrittenCheckpoint } from './saver.ts';

/** Names and shapes of everything a checkpoint holds. */
export interface CheckpointTensors {
  readonly parameters: readonly TensorSpec[];
  readonly optimizerSlots: readonly TensorSpec[];
}

export interface PublisherInit {
  readonly config: RunConfig;
  readonly tensors: CheckpointTensors;
  /** Copied into the checkpoint. */
  readonly tokenizerFiles: readonly string[];
  readonly mixtureHash: string;
  readonly tokenizerHash: string;
  readonly epoch: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** @returns the function that publishes; it throws what publishCheckpoint throws */
export function createPublisher({
  config,
  tensors,
  tokenizerFiles,
  mixtureHash,
  tokenizerHash,
  epoch,
  clock,
  signal,
}: PublisherInit): (
  written: WrittenCheckpoint & { readonly engineFingerprint: string },
) => Promise<PublishedCheckpoint> {
  const { maxShardBytes } = config.checkpoint;
  const shardPlan = planCheckpoint({ ...tensors, maxShardBytes });
  const plainConfig = JSON.parse(JSON.stringify(config)) as Record<string, never>;
  return async ({ step, cursor, generation, worldSize, paramDigest, engineFingerprint, ...written }) =>
    publishCheckpoint({
      ...written,
      shardPlan,
      hfConfig: toHuggingFace(config.model),
      tokenizerFiles,
      run: {
        exmixVersion: VERSION,
        step,
        cursor,
        seeds: { run: config.seed },
        config: plainConfig,
        configHash: numericsHash(config),
        mixtureHash,
        tokenizerHash,
        engineFingerprint,
        epoch,
        generation,
        worldSize,
        paramDigest,
        savedAt: new Date(clock.wallMs()).toISOString(),
      },
      signal,
    });
}
