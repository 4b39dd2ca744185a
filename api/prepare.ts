/** Preparing a mixture from a program: what `exmix prepare` does. */
import { preparedFolder } from '../mixture/prepare/prepared-folder.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import type { FeatureLengths, Mixture } from '../mixture/tasks/task.ts';

export interface PrepareOptions {
  readonly mixture: Mixture;
  /** Tokens of a packed row, EOS included. */
  readonly featureLengths: FeatureLengths;
  /** Folder of the prepared mixture. Default: in the cache of exmix, named by the identity of the mixture. */
  readonly outDir?: string;
  /** Child processes; `auto`, the default: as many as there are cores and the work is worth. */
  readonly processes?: number | 'auto';
  /** Largest share of malformed rows of a task, 0 to 1. Default: 0.001. */
  readonly badRowThreshold?: number;
  /** Calls the work off; finished units stay, and the next call keeps them. */
  readonly signal?: AbortSignal;
  /** Called when a task is done. */
  readonly onTask?: (task: PreparedTask) => void;
}

export interface PreparedTask {
  readonly name: string;
  /** `reused`: it was there, made from the same sources. */
  readonly outcome: 'prepared' | 'reused';
  readonly numExamples: number;
  readonly numTokens: number;
}

export interface PreparedMixtureReport {
  readonly folder: string;
  /** Identity of the prepared bytes. */
  readonly hash: string;
  readonly tasks: readonly PreparedTask[];
}

/**
 * Tokenizes the sources of a mixture into token shards. Resumable: what is there and still fits is kept.
 * @throws TrainerError: CONFIG_INVALID, SOURCE_UNREADABLE, SOURCE_MALFORMED, TOKENIZER_INVALID, PATH_UNUSABLE, DISK_FULL, ABORTED
 */
export async function prepare(options: PrepareOptions): Promise<PreparedMixtureReport> {
  const { mixture, featureLengths, onTask, processes = 'auto', ...rest } = options;
  const { outDir = preparedFolder({ mixture, featureLengths }) } = options;
  const { folder, hash, tasks } = await prepareMixture({
    ...rest,
    ...{ mixture, featureLengths, outDir, processes },
    onTask: (task) => onTask?.(reportOf(task)),
  });
  return { folder, hash, tasks: tasks.map(reportOf) };
}

type TaskReport = Awaited<ReturnType<typeof prepareMixture>>['tasks'][number];

function reportOf({ name, outcome, manifest }: TaskReport): PreparedTask {
  return { name, outcome, numExamples: manifest.numExamples, numTokens: manifest.numTokens };
}
