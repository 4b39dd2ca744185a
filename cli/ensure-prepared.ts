/**
 * Opens the prepared mixture of a run. A local one is prepared first if it is missing or older than its sources. A remote one is only
 * opened: `exmix prepare` must have made it before.
 */
import { openPreparedMixture, type PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { prepareEvaluationSets } from '../mixture/evaluation-sets/prepare-evaluation-sets.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import type { SourceNotice } from '../mixture/feed/source-watch.ts';
import type { FeatureLengths, Mixture } from '../mixture/tasks/task.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import { isLocalLocation, nameLocation } from '../shared/storage/location.ts';
import { describeAbsent, describeSet } from './prepare-view.ts';
import { loadRunMixture } from './run-mixture.ts';

/** A larger prepared mixture is not hashed at each start: only file sizes are checked then, and tokens when they are read. */
const HASH_UP_TO_BYTES = 1024 * 1024 * 1024;

export interface MixtureOfRun {
  readonly mixture: PreparedMixture;
  /** As the mixture file declares it. */
  readonly declared: Mixture;
  /** Copied into each checkpoint, so that its ids can be decoded. */
  readonly tokenizerFiles: readonly string[];
}

/**
 * @param namedBy the stored config that names the mixture, where the user named none (`storedConfigOf`)
 * @param onLine receives a line for each prepared task and each notice of a source
 * @throws the errors of prepareMixture and openPreparedMixture; CONFIG_INVALID if the model has fewer ids than the tokenizer
 */
export async function ensurePrepared(
  config: RunConfig,
  namedBy: string | undefined,
  onLine: (text: string) => void,
  signal: AbortSignal,
): Promise<MixtureOfRun> {
  const { mixture, prepared: location } = loadRunMixture(config, namedBy);
  if (namedBy !== undefined && !isLocalLocation(location))
    onLine(`${namedBy} names the prepared mixture: it is read from ${nameLocation(location)}`);
  const prepared = isLocalLocation(location)
    ? await prepareHere(mixture, config.featureLengths, location, onLine, signal)
    : await openPreparedMixture(location, {
        access: {
          sourceTimeoutMs: config.feed.sourceTimeoutMs,
          onSource: (notice) => onLine(formatNotice(notice)),
        },
        signal,
      });
  const { vocabSize } = prepared.tokenizer;
  if (vocabSize > config.model.vocabSize)
    throw new TrainerError(
      'CONFIG_INVALID',
      `model.vocabSize: expected at least the ${vocabSize} ids of the tokenizer of ${mixture.name}, got ${config.model.vocabSize}`,
    );
  return { mixture: prepared, declared: mixture, tokenizerFiles: [mixture.tokenizerPath] };
}

function formatNotice(notice: SourceNotice): string {
  const forS = `${(notice.forMs / 1000).toFixed(1)} s`;
  return notice.kind === 'answers'
    ? `source answers again after ${forS}`
    : `source does not answer for ${forS}: ${notice.place}: ${notice.reason}`;
}

async function prepareHere(
  mixture: Mixture,
  featureLengths: FeatureLengths,
  outDir: string,
  onLine: (text: string) => void,
  signal: AbortSignal,
): Promise<PreparedMixture> {
  const { folder, hash, tasks } = await prepareMixture({
    mixture,
    featureLengths,
    outDir,
    processes: 'auto',
    pinned: true,
    hashUpToBytes: HASH_UP_TO_BYTES,
    signal,
    onTask: ({ name, outcome, manifest }) => {
      if (outcome === 'prepared') onLine(`prepared ${name}: ${manifest.numExamples} examples`);
    },
    onNote: (line) => onLine(line),
  });
  const reused = tasks.filter(({ outcome }) => outcome === 'reused').length;
  onLine(
    `mixture ${mixture.name}: ${tasks.length} tasks in ${folder}${reused === tasks.length ? ' (prepared before)' : ''}`,
  );
  await prepareSetsHere(mixture, featureLengths, folder, onLine, signal);
  return openPreparedMixture(folder, { expectedHash: hash, signal });
}

/** Training needs no evaluation set: a source that cannot be read is told, and whoever needs its set fails. @throws DISK_FULL, PATH_UNUSABLE, ABORTED */
async function prepareSetsHere(
  mixture: Mixture,
  featureLengths: FeatureLengths,
  outDir: string,
  onLine: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    await prepareEvaluationSets({
      ...{ mixture, featureLengths, outDir, signal },
      pinned: true,
      hashUpToBytes: HASH_UP_TO_BYTES,
      onSet: (set) => {
        if (set.outcome === 'prepared') onLine(describeSet(set));
      },
      onAbsent: (set) => onLine(describeAbsent(set)),
      onNote: onLine,
    });
  } catch (thrown) {
    const error = toTrainerError(thrown);
    if (error.code === 'DISK_FULL' || error.code === 'PATH_UNUSABLE' || error.code === 'ABORTED') throw error;
    onLine(`some evaluation sets were not made: ${error.message}`);
  }
}
