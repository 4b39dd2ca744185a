/**
 * The default folder of a prepared mixture: `<home>/prepared/<mixture name>-<short identity hash>`, for prepare and
 * train.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { BYTE_VOCABULARY } from '../../shared/byte-vocabulary.ts';
import { readSmallFileSync } from '../../shared/small-file.ts';
import { exmixHome } from '../../shared/exmix-home.ts';
import type { EvaluationSplits, FeatureLengths, Mixture, SourceSpec } from '../tasks/task.ts';
import { heldOutIdentity, heldOutOf } from '../tasks/train-cut.ts';
import { MAX_TOKENIZER_BYTES } from '../tokenizer/tokenizer.ts';
import { FORMAT_VERSION, sha256Of } from './prepared-format.ts';

export interface PreparedFolderInit {
  readonly mixture: Mixture;
  readonly featureLengths: FeatureLengths;
  /** Default: exmixHome(). */
  readonly home?: string;
}

/**
 * The folder of a mixture. Another layout, template, tokenizer, length or size of a source file gives another folder,
 * so it does not disturb a run that reads the old one. If a source changes but keeps its size, prepareMixture notices
 * it by its hash.
 */
export function preparedFolder({ mixture, featureLengths, home = exmixHome() }: PreparedFolderInit): string {
  const identity = {
    version: FORMAT_VERSION,
    featureLengths: { inputs: featureLengths.inputs, targets: featureLengths.targets },
    tokenizer: mixture.tokenizerPath === BYTE_VOCABULARY ? BYTE_VOCABULARY : sha256OfFile(mixture.tokenizerPath),
    tasks: mixture.tasks.map(({ name, source, preprocessor, splits }) => [
      name,
      sourceIdentity(source),
      preprocessor.identity,
      ...cutOf(splits),
    ]),
    denoising: mixture.denoising && [
      mixture.denoising.name,
      sourceIdentity(mixture.denoising.source),
      mixture.denoising.text,
      ...cutOf(mixture.denoising.splits),
    ],
  };
  return join(home, 'prepared', `${mixture.name}-${sha256Of(JSON.stringify(identity)).slice(0, 12)}`);
}

/** Nothing for a task without a cut. */
function cutOf(splits: EvaluationSplits | undefined): unknown[] {
  const heldOut = heldOutOf(splits);
  return heldOut === undefined ? [] : [heldOutIdentity(heldOut)];
}

function sourceIdentity(source: SourceSpec): unknown {
  if (source.kind === 'hub') return source;
  const { format, quotes, files } = source;
  return { format, quotes, files: files.map(({ location, name }) => [name, sizeOf(location)]) };
}

/** prepareMixture reports missing files, all at once. */
function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? -1;
}

function sha256OfFile(path: string): string {
  try {
    return sha256Of(readSmallFileSync(path, MAX_TOKENIZER_BYTES));
  } catch {
    return 'missing';
  }
}
