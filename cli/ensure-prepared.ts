/** The prepared mixture of a run: made where it is not there or no longer fits its sources, verified in any case. */
import { openPreparedMixture, type PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { preparedFolder } from '../mixture/prepare/prepared-folder.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import type { ConsoleReporter } from './console-reporter.ts';

export interface MixtureOfRun {
  readonly mixture: PreparedMixture;
  /** What a checkpoint carries along, so that its ids can be read. */
  readonly tokenizerFiles: readonly string[];
}

/** @throws what prepareMixture and openPreparedMixture throw; CONFIG_INVALID where the model has fewer ids than the tokenizer */
export async function ensurePrepared(
  config: RunConfig,
  reporter: ConsoleReporter,
  signal: AbortSignal,
): Promise<MixtureOfRun> {
  const { featureLengths } = config;
  const mixture = loadMixture(config.mixture.path);
  const outDir = config.mixture.prepared ?? preparedFolder({ mixture, featureLengths });
  const { folder, hash, tasks } = await prepareMixture({
    mixture,
    featureLengths,
    outDir,
    signal,
    onTask: ({ name, outcome, manifest }) => {
      if (outcome === 'prepared') reporter.line(`prepared ${name}: ${manifest.numExamples} examples`);
    },
  });
  const reused = tasks.filter(({ outcome }) => outcome === 'reused').length;
  reporter.line(
    `mixture ${mixture.name}: ${tasks.length} tasks in ${folder}${reused === tasks.length ? ' (prepared before)' : ''}`,
  );
  // Every shard was hashed a moment ago, when it was made or found again.
  const prepared = await openPreparedMixture(folder, { expectedHash: hash, verify: false });
  const { vocabSize } = prepared.tokenizer;
  if (vocabSize > config.model.vocabSize)
    throw new TrainerError(
      'CONFIG_INVALID',
      `model.vocabSize: expected at least the ${vocabSize} ids of the tokenizer of ${mixture.name}, got ${config.model.vocabSize}`,
    );
  return { mixture: prepared, tokenizerFiles: [mixture.tokenizerPath] };
}
