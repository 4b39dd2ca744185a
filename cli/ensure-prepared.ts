/**
 * Opens the prepared mixture of a run. A local one is prepared first if it is missing or older than its sources. A remote one is only
 * opened: `exmix prepare` must have made it before.
 */
import { openPreparedMixture, type PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { checkpointTokenizer } from '../mixture/tokenizer/checkpoint-tokenizer.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import type { SourceNotice } from '../mixture/feed/source-watch.ts';
import type { FeatureLengths, Mixture } from '../mixture/tasks/task.ts';
import type { ExtraFile } from '../shared/checkpoint/extra-file.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { isLocalLocation, nameLocation } from '../shared/storage/location.ts';
import { loadRunMixture } from './run-mixture.ts';

/** A larger prepared mixture is not hashed at each start: only file sizes are checked then, and tokens when they are read. */
const HASH_UP_TO_BYTES = 1024 * 1024 * 1024;

export interface MixtureOfRun {
  readonly mixture: PreparedMixture;
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
  return { mixture: prepared, tokenizerFiles: await checkpointTokenizer(mixture.tokenizerPath) };
}

/** @param vocabSize ids of the tokenizer of the mixture @throws CONFIG_INVALID */
export function checkVocabulary({ model }: RunConfig, mixtureName: string, vocabSize: number): void {
  if (vocabSize > model.vocabSize)
    throw new TrainerError(
      'CONFIG_INVALID',
      `model.vocabSize: expected at least the ${vocabSize} ids of the tokenizer of ${mixtureName}, got ${model.vocabSize}`,
    );
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
  return openPreparedMixture(folder, { expectedHash: hash, signal });
}
