/** The store of the coordinator's checkpoints: folders of the run, each published by one rename. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../shared/clock.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import type { ExtraFile } from '../../shared/checkpoint/extra-file.ts';
import { checkpointName } from '../../shared/checkpoint/layout.ts';
import { planCheckpoint, type TensorSpec } from '../../shared/checkpoint/shard-plan.ts';
import { numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { toHuggingFace } from '../../shared/model-config.ts';
import { VERSION } from '../../shared/version.ts';
import { type WrittenCheckpoint, makeWritingFolder, publishCheckpoint, type PublishedCheckpoint } from './publish.ts';
import { pruneCheckpoints } from './retention.ts';
import type { ScoredStep } from './validation-score.ts';

export interface CheckpointStore {
  /** Makes a folder that workers write their shards into and no reader sees. @throws DISK_FULL, PATH_UNUSABLE */
  begin(at: { readonly step: number; readonly epoch: number; readonly generation: number }): Promise<string>;
  /** Removes the files of a checkpoint that will not be published. @throws PATH_UNUSABLE */
  discard(writingFolder: string): Promise<void>;
  /** Adds the coordinator's files and makes the folder visible. @throws the errors of publishCheckpoint */
  publish(written: WrittenCheckpoint & { readonly engineFingerprint: string }): Promise<PublishedCheckpoint>;
  /**
   * Removes the checkpoints that retention does not keep.
   * @param latest the step that was just published @param validations all of the run
   */
  prune(latest: number, validations: readonly ScoredStep[]): Promise<readonly object[]>;
}

/** Names and shapes of all tensors of a checkpoint. */
export interface CheckpointTensors {
  readonly parameters: readonly TensorSpec[];
  readonly optimizerSlots: readonly TensorSpec[];
}

export interface CheckpointStoreInit {
  /** `<run>/checkpoints` */
  readonly folder: string;
  readonly config: RunConfig;
  readonly tensors: CheckpointTensors;
  /** In each checkpoint. */
  readonly tokenizerFiles: readonly ExtraFile[];
  readonly mixtureHash: string;
  readonly tokenizerHash: string;
  readonly epoch: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export function createCheckpointStore(init: CheckpointStoreInit): CheckpointStore {
  const { folder, config, tensors, tokenizerFiles, mixtureHash, tokenizerHash, epoch, clock, signal } = init;
  const { maxShardBytes, keepLast, keepEverySteps, keepBest } = config.checkpoint;
  const shardPlan = planCheckpoint({ ...tensors, maxShardBytes });
  const plainConfig = JSON.parse(JSON.stringify(config)) as Record<string, never>;
  return {
    begin: (at) => makeWritingFolder(folder, at),
    async discard(writingFolder) {
      try {
        await rm(writingFolder, { recursive: true, force: true });
      } catch (error) {
        throw toStorageError(error, 'remove', writingFolder);
      }
    },
    publish: ({ step, cursor, generation, worldSize, paramDigest, engineFingerprint, ...written }) =>
      publishCheckpoint({
        ...written,
        finalFolder: join(folder, checkpointName(step)),
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
      }),
    prune: (latest, validations) => {
      const { metric, count } = keepBest;
      const retention = {
        keepLast,
        ...(keepEverySteps === undefined ? {} : { keepEvery: keepEverySteps }),
        ...(count === undefined ? {} : { keepBest: { metric, count, validations } }),
      };
      return pruneCheckpoints(folder, retention, new Map([[latest, 'it was just published']]));
    },
  };
}
