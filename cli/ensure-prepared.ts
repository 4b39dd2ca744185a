/**
 * The prepared mixture of a run: made where it is not there or no longer fits its sources. One in remote storage is taken as it is:
 * `exmix prepare` made it and somebody copied it there.
 */
import { openPreparedMixture, type PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { preparedFolder } from '../mixture/prepare/prepared-folder.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { isLocalLocation } from '../shared/storage/open-storage.ts';
import type { ConsoleReporter } from './console-reporter.ts';

/** A larger mixture that is there is not hashed at each start: its sizes are looked at, and its tokens are checked as they are read. */
const HASH_UP_TO_BYTES = 1024 * 1024 * 1024;

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
  const mixture = loadMixture(config.mixture.path);
  const given = config.mixture.prepared;
  const prepared =
    given !== undefined && !isLocalLocation(given)
      ? await openPreparedMixture(given, { signal })
      : await prepareHere(config, reporter, signal);
  const { vocabSize } = prepared.tokenizer;
  if (vocabSize > config.model.vocabSize)
    throw new TrainerError(
      'CONFIG_INVALID',
      `model.vocabSize: expected at least the ${vocabSize} ids of the tokenizer of ${mixture.name}, got ${config.model.vocabSize}`,
    );
  return { mixture: prepared, tokenizerFiles: [mixture.tokenizerPath] };
}

async function prepareHere(
  { mixture: { path, prepared }, featureLengths }: RunConfig,
  reporter: ConsoleReporter,
  signal: AbortSignal,
): Promise<PreparedMixture> {
  const mixture = loadMixture(path);
  const { folder, hash, tasks } = await prepareMixture({
    mixture,
    featureLengths,
    outDir: prepared ?? preparedFolder({ mixture, featureLengths }),
    processes: 'auto',
    pinned: true,
    hashUpToBytes: HASH_UP_TO_BYTES,
    signal,
    onTask: ({ name, outcome, manifest }) => {
      if (outcome === 'prepared') reporter.line(`prepared ${name}: ${manifest.numExamples} examples`);
    },
    onNote: (line) => reporter.line(line),
  });
  const reused = tasks.filter(({ outcome }) => outcome === 'reused').length;
  reporter.line(
    `mixture ${mixture.name}: ${tasks.length} tasks in ${folder}${reused === tasks.length ? ' (prepared before)' : ''}`,
  );
  return openPreparedMixture(folder, { expectedHash: hash, signal });
}
