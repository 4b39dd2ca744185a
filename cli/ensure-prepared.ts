/**
 * Opens the prepared mixture of a run. A local one is prepared first if it is missing or older than its sources. A remote one is only
 * opened: `exmix prepare` must have made it before.
 */
import { withDenoisers } from '../mixture/feed/denoised-mixture.ts';
import { openPreparedMixture, type PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { checkpointTokenizer } from '../mixture/tokenizer/checkpoint-tokenizer.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import type { SourceNotice } from '../mixture/feed/source-watch.ts';
import type { FeatureLengths, Mixture } from '../mixture/tasks/task.ts';
import { loadTokenizer } from '../mixture/tokenizer/tokenizer.ts';
import type { ExtraFile } from '../shared/checkpoint/extra-file.ts';
import { denoisersOf, type RunConfig } from '../shared/config/schema.ts';
import type { Denoiser } from '../shared/denoisers.ts';
import { TrainerError, toTrainerError } from '../shared/errors.ts';
import { prepareEvaluationSets } from '../mixture/evaluation-sets/prepare-evaluation-sets.ts';
import { isLocalLocation, nameLocation } from '../shared/storage/location.ts';
import { describeAbsent, describeSet } from './prepare-view.ts';
import { loadRunMixture } from './run-mixture.ts';

/** A larger prepared mixture is not hashed at each start: only file sizes are checked then, and tokens when they are read. */
const HASH_UP_TO_BYTES = 1024 * 1024 * 1024;

export interface MixtureOfRun {
  /** That of the run, with the ids of the denoisers' prefixes. */
  readonly config: RunConfig;
  /** With a task for each denoiser. */
  readonly mixture: PreparedMixture;
  /** As the mixture file declares it. */
  readonly declared: Mixture;
  /** In each checkpoint, so that its ids can be decoded. */
  readonly tokenizerFiles: readonly ExtraFile[];
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
  checkVocabulary(config, mixture.name, prepared.tokenizer.vocabSize);
  const denoisers = await resolveDenoisers(config, mixture);
  const denoised = withDenoisers(prepared, denoisers);
  if (denoisers !== undefined) onLine(describeDenoisers(prepared, denoised));
  return {
    config: denoisers === undefined ? config : { ...config, mixture: { ...config.mixture, denoising: denoisers } },
    mixture: denoised,
    declared: mixture,
    tokenizerFiles: await checkpointTokenizer(mixture.tokenizerPath),
  };
}

/** @param vocabSize ids of the tokenizer of the mixture @throws CONFIG_INVALID */
export function checkVocabulary({ model }: RunConfig, mixtureName: string, vocabSize: number): void {
  if (vocabSize > model.vocabSize)
    throw new TrainerError(
      'CONFIG_INVALID',
      `model.vocabSize: expected at least the ${vocabSize} ids of the tokenizer of ${mixtureName}, got ${model.vocabSize}`,
    );
}

/** The run's denoisers with the ids of their prefixes. @throws CONFIG_INVALID for two prefixes with the same ids */
async function resolveDenoisers(config: RunConfig, mixture: Mixture): Promise<Denoiser[] | undefined> {
  const denoisers = denoisersOf(config);
  if (denoisers === undefined) return undefined;
  if (mixture.denoising === undefined)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture.denoising: ${mixture.name} has no denoising text; add a denoising entry to ${mixture.path}, or leave mixture.denoising out`,
    );
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const prefixes = new Map<string, string>();
  return denoisers.map((denoiser) => {
    const { name, prefix } = denoiser;
    if (prefix === '') return denoiser;
    const prefixIds = [...tokenizer.encode(prefix)];
    const same = prefixes.get(prefixIds.join()) ?? prefix;
    if (same !== prefix)
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture.denoising ${name}: the prefixes ${JSON.stringify(same)} and ${JSON.stringify(prefix)} have the same ids in the vocabulary of ${mixture.name}; give another prefix`,
      );
    prefixes.set(prefixIds.join(), prefix);
    return { ...denoiser, prefixIds };
  });
}

function describeDenoisers(prepared: PreparedMixture, denoised: PreparedMixture): string {
  const tokensOf = (tasks: PreparedMixture['tasks']): number =>
    tasks.reduce((sum, { numExamples, segmentLength }) => sum + numExamples * segmentLength, 0);
  const stored = tokensOf(prepared.tasks);
  const parts = denoised.tasks
    .filter(({ denoiser }) => denoiser !== undefined)
    .map((task) => {
      const percent = Math.round((100 * tokensOf([task])) / stored);
      return `${task.name} ${task.numExamples} examples of ${task.segmentLength} tokens (${percent} % of the text)`;
    });
  return `denoisers: ${parts.join(', ')}`;
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
