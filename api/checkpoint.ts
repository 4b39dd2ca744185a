/** Reading a checkpoint from a program. */
import { readCheckpoint as readVerified } from '../shared/checkpoint/read.ts';
import { modelConfigSchema } from '../shared/model-config.ts';
import { parameterSpecs } from '../worker/model/parameters.ts';

export interface Checkpoint {
  readonly path: string;
  /** Optimizer updates in the parameters. */
  readonly step: number;
  /** The resolved configuration of the run, as in `run.json`. */
  readonly config: Readonly<Record<string, unknown>>;
  /** SHA-256 (hex) over all parameters: equal digests are equal bits. */
  readonly paramDigest: string;
  /** Of the engine that trained it. */
  readonly engineFingerprint: string;
  /** ISO 8601, UTC. */
  readonly savedAt: string;
  /**
   * The parameters by their names in Transformers.
   * @throws TrainerError: CHECKPOINT_CORRUPT, CHECKPOINT_MISMATCH, ABORTED
   */
  loadParameters(signal?: AbortSignal): Promise<Map<string, Parameter>>;
}

export interface Parameter {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/**
 * Verifies a checkpoint, every byte of it, and reads its record.
 * @throws TrainerError: CHECKPOINT_CORRUPT with all problems, PATH_UNUSABLE, ABORTED
 */
export async function readCheckpoint(path: string, signal?: AbortSignal): Promise<Checkpoint> {
  const checkpoint = await readVerified(path, signal);
  const { step, config, paramDigest, engineFingerprint, savedAt } = checkpoint.run;
  return {
    ...{ path, step, config, paramDigest, engineFingerprint, savedAt },
    async loadParameters(loadSignal) {
      const specs = parameterSpecs(modelConfigSchema.parse(config['model']));
      const values = await checkpoint.loadParameters(specs, loadSignal);
      return new Map(specs.map(({ name, shape }) => [name, { shape, values: values.get(name)! }]));
    },
  };
}
