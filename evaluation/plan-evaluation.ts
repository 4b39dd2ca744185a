/**
 * Which examples of an evaluation are computed together. Pure.
 *
 * Definition: a set is judged by scores (loss and hits of its targets under teacher forcing) and, where its task generates, by outputs that are
 * decoded. A batch belongs to one set and one of the two kinds. Its shape and its examples follow from the sets and the options alone, never
 * from the workers, so the numbers of an example are the same for any number of them.
 */
import { MAX_BATCH_EXAMPLES } from '../shared/protocol/messages.ts';
import type { DecodingSettings } from './decoding/settings.ts';
import { paddedLength, planBatches } from './plan-batches.ts';

/** Most target positions of a batch that is scored: the logits have a number for each token of the vocabulary at each of them. */
const MAX_SCORED_POSITIONS = 1_024;
/** Most positions of all hypotheses of a batch that is decoded: the decoder keeps keys and values of each. */
const MAX_DECODED_POSITIONS = 16_384;

export interface PlannedExample {
  /** With EOS. */
  readonly inputIds: readonly number[];
  /** With EOS. */
  readonly targetIds: readonly number[];
}

export interface PlannedSet {
  /** A denoising set is scored and not decoded. */
  readonly kind: 'supervised' | 'denoising';
  readonly examples: readonly PlannedExample[];
  /** Number of its first example, where the set is a part of a larger one: random numbers depend on it. Default 0. */
  readonly firstExample?: number;
}

export interface EvaluationOptions {
  /** Left out: scores only. */
  readonly decoding?: DecodingSettings;
  /** Most rows × length of a batch; a single example may have more. */
  readonly batchTokens: number;
}

interface BatchInit {
  /** Index into the sets. */
  readonly set: number;
  /** Indices into the examples of the set. */
  readonly examples: readonly number[];
  /** Of each row, padding included. */
  readonly inputsLength: number;
}

export interface DecodeBatch extends BatchInit {
  readonly kind: 'decode';
}

export interface ScoreBatch extends BatchInit {
  readonly kind: 'score';
  readonly targetsLength: number;
  /** A power of two: shapes stay few. Rows beyond the examples are padding. */
  readonly numRows: number;
}

/** Its index is its number. */
export type EvaluationBatch = DecodeBatch | ScoreBatch;

/** Set by set: first the scores, then the outputs. */
export function planEvaluation(sets: readonly PlannedSet[], options: EvaluationOptions): EvaluationBatch[] {
  return sets.flatMap((set, index) => [
    ...planScores(set, index, options.batchTokens),
    ...(set.kind === 'denoising' || options.decoding === undefined
      ? []
      : planOutputs(set, index, options.decoding, options.batchTokens)),
  ]);
}

/** Examples of like lengths, longest first. A row is as long as its own example wants. */
function planScores({ examples }: PlannedSet, set: number, batchTokens: number): ScoreBatch[] {
  const shapes = examples.map(({ inputIds, targetIds }, example) => ({
    example,
    inputsLength: powerOfTwo(paddedLength(inputIds.length)),
    targetsLength: powerOfTwo(paddedLength(targetIds.length)),
  }));
  shapes.sort((a, b) => b.inputsLength - a.inputsLength || b.targetsLength - a.targetsLength || a.example - b.example);
  const batches: ScoreBatch[] = [];
  for (let start = 0; start < shapes.length;) {
    const { inputsLength, targetsLength } = shapes[start]!;
    const mostRows = Math.min(
      MAX_BATCH_EXAMPLES,
      batchTokens / (inputsLength + targetsLength),
      MAX_SCORED_POSITIONS / targetsLength,
    );
    const same = shapes
      .slice(start, start + 2 ** Math.max(0, Math.floor(Math.log2(mostRows))))
      .filter((shape) => shape.inputsLength === inputsLength && shape.targetsLength === targetsLength);
    const numRows = powerOfTwo(same.length);
    batches.push({
      kind: 'score',
      ...{ set, examples: same.map(({ example }) => example), inputsLength, targetsLength, numRows },
    });
    start += same.length;
  }
  return batches;
}

/** The batches that decode the examples of a set. @param set its index */
export function planOutputs(
  { examples }: PlannedSet,
  set: number,
  decoding: DecodingSettings,
  batchTokens: number,
): DecodeBatch[] {
  const numBeams = 'numBeams' in decoding ? decoding.numBeams : 1;
  const maxRows = Math.max(1, Math.floor(MAX_DECODED_POSITIONS / (numBeams * decoding.maxNewTokens)));
  const lengths = examples.map(({ inputIds }) => inputIds.length);
  return planBatches(lengths, batchTokens, Math.min(MAX_BATCH_EXAMPLES, maxRows)).map((batch) => ({
    kind: 'decode',
    set,
    ...batch,
  }));
}

/** The smallest that is not below. */
function powerOfTwo(count: number): number {
  return 2 ** Math.ceil(Math.log2(count));
}
