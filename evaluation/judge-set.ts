/**
 * The results of all batches of a set → its scores, and a line for each example. Pure.
 *
 * Every set is scored under teacher forcing: loss (nats a target token), perplexity, share of target tokens that are the likeliest. A set of a
 * task that generates has the task's metrics too.
 */
import { assertInvariant, TrainerError } from '../shared/errors.ts';
import type { MetricName, TaskEvaluation } from '../shared/task-evaluation.ts';
import type { BatchResult, Output } from './batch-messages.ts';
import { EOS_TOKEN } from './decoding/settings.ts';
import type { Synonyms } from './metrics/meteor.ts';
import { sumScorer, type Scorer, type Scores } from './metrics/scorer.ts';
import type { EvaluationBatch, PlannedExample } from './plan-evaluation.ts';
import type { EvaluationExample, FieldValue } from './postprocess.ts';
import { compareTask, metricScores, type MetricScores } from './task-scores.ts';

export interface JudgedExample extends PlannedExample {
  /** Place in the set, from 0. */
  readonly id: number;
  readonly inputs: string;
  readonly targets: string;
  /** All right answers; left out: the targets. */
  readonly references?: readonly string[];
  readonly fields: Readonly<Record<string, unknown>>;
  /** Tokens of the inputs beyond the longest row. */
  readonly cutInputTokens: number;
}

export interface JudgedSet {
  readonly examples: readonly JudgedExample[];
  /** How outputs are judged; left out: the set is scored alone. */
  readonly evaluation?: TaskEvaluation;
  /** Ids of examples that a train split has too; left out: the set was not compared with train. */
  readonly leaked?: ReadonlySet<number>;
}

/** What the batches have found out about the examples of a set, in the order of the examples. */
export interface SetFindings {
  readonly losses: readonly number[];
  readonly numRight: readonly number[];
  /** The best output; undefined where the set is scored alone. */
  readonly outputs: readonly Output[] | undefined;
}

export interface JudgedPrediction {
  readonly prediction: string;
  /** The search's score of the output. */
  readonly score: number;
  readonly isInvalid: boolean;
  /** Figures of this example alone, by metric; without metrics that judge groups of examples. */
  readonly scores: Readonly<Record<string, Scores>>;
}

/** A line of a file of predictions, as far as it is judged. */
export interface JudgedLine {
  readonly id: number;
  readonly inputs: string;
  readonly references: readonly string[];
  readonly fields: Readonly<Record<string, FieldValue>>;
  readonly loss: number;
  readonly numTokens: number;
  readonly numRight: number;
  /** A train split has the example too. */
  readonly isLeaked?: true;
  readonly output?: JudgedPrediction;
}

export interface SetScores {
  readonly numExamples: number;
  /** Examples whose inputs were cut. */
  readonly numCut: number;
  readonly numTargetTokens: number;
  readonly teacherForcing: MetricScores;
  readonly outputs?: {
    /** Predictions that name no label or number. They are scored as wrong. */
    readonly numInvalid: number;
    /** Outputs that reached the longest length without their end. */
    readonly numUnended: number;
    readonly metrics: ReadonlyMap<MetricName, MetricScores>;
  };
  /** Scores of the examples that no train split has; left out: the set was not compared with train. */
  readonly withoutLeaked?: {
    readonly numLeaked: number;
    readonly teacherForcing: MetricScores;
    /** Empty where the set is scored alone. */
    readonly metrics: ReadonlyMap<MetricName, MetricScores>;
  };
}

/** @param results of the batches, by their number @returns for each set, in their order */
export function findingsOf(
  batches: readonly EvaluationBatch[],
  results: readonly BatchResult[],
  numExamples: readonly number[],
): SetFindings[] {
  return numExamples.map((count, set) => {
    const losses = new Array<number>(count);
    const numRight = new Array<number>(count);
    const outputs = new Array<Output>(count);
    let isDecoded = false;
    for (const [number, batch] of batches.entries()) {
      if (batch.set !== set) continue;
      const result = results[number];
      assertInvariant(result?.kind === batch.kind, `batch ${number} has its result`);
      isDecoded ||= result.kind === 'decode';
      batch.examples.forEach((example, at) => {
        if (result.kind === 'decode') outputs[example] = result.outputs[at]![0]!;
        else [losses[example], numRight[example]] = [result.losses[at]!, result.numRight[at]!];
      });
    }
    return { losses, numRight, outputs: isDecoded ? outputs : undefined };
  });
}

/**
 * @param decodeText token ids → text
 * @throws METRIC_INPUT_INVALID for an example without a field that the post-processor reads
 */
export function judgeSet(
  { examples, evaluation, leaked }: JudgedSet,
  { losses, numRight, outputs }: SetFindings,
  decodeText: (ids: readonly number[]) => string,
  synonyms?: Synonyms,
): { readonly scores: SetScores; readonly lines: readonly JudgedLine[] } {
  const numTokens = examples.map(({ targetIds }) => targetIds.length);
  const lines = examples.map((example, at): JudgedLine => ({
    id: example.id,
    inputs: example.inputs,
    ...toEvaluationExample(example),
    loss: losses[at]!,
    numTokens: numTokens[at]!,
    numRight: numRight[at]!,
    ...(leaked?.has(example.id) === true ? { isLeaked: true } : {}),
  }));
  const scores: SetScores = {
    numExamples: examples.length,
    numCut: examples.filter(({ cutInputTokens }) => cutInputTokens > 0).length,
    numTargetTokens: numTokens.reduce((sum, count) => sum + count, 0),
    teacherForcing: metricScores(teacherForcing(lines)),
  };
  const withoutLeaked = (judged?: JudgedOutputs): Pick<SetScores, 'withoutLeaked'> =>
    leaked === undefined ? {} : { withoutLeaked: scoreKept(lines, judged) };
  if (outputs === undefined || evaluation === undefined) return { scores: { ...scores, ...withoutLeaked() }, lines };
  const predictions = outputs.map(({ ids }) => decodeText(ids));
  const { isInvalid, scorers } = compareTask(evaluation, lines, predictions, synonyms);
  const single = [...scorers].filter(([, { numUnits }]) => numUnits === examples.length);
  return {
    scores: {
      ...scores,
      ...withoutLeaked({ evaluation, predictions, synonyms }),
      outputs: {
        numInvalid: isInvalid.filter((invalid) => invalid).length,
        numUnended: outputs.filter(({ ids }) => ids.at(-1) !== EOS_TOKEN).length,
        metrics: new Map([...scorers].map(([metric, scorer]) => [metric, metricScores(scorer)])),
      },
    },
    lines: lines.map((line, at) => ({
      ...line,
      output: {
        prediction: predictions[at]!,
        score: outputs[at]!.score,
        isInvalid: isInvalid[at]!,
        scores: Object.fromEntries(single.map(([metric, scorer]) => [metric, scorer.score([at])])),
      },
    })),
  };
}

interface JudgedOutputs {
  readonly evaluation: TaskEvaluation;
  readonly predictions: readonly string[];
  readonly synonyms: Synonyms | undefined;
}

/** Scores of the examples that are not leaked. Of a group that a metric judges as one, the leaked examples are left out. */
function scoreKept(lines: readonly JudgedLine[], outputs?: JudgedOutputs): NonNullable<SetScores['withoutLeaked']> {
  const kept = lines.flatMap(({ isLeaked }, at) => (isLeaked === true ? [] : [at]));
  const keptLines = kept.map((at) => lines[at]!);
  const scores = { numLeaked: lines.length - kept.length, teacherForcing: metricScores(teacherForcing(keptLines)) };
  if (outputs === undefined) return { ...scores, metrics: new Map() };
  const { evaluation, predictions, synonyms } = outputs;
  const { scorers } = compareTask(evaluation, keptLines, kept.map((at) => predictions[at]!), synonyms); // prettier-ignore
  return { ...scores, metrics: new Map([...scorers].map(([metric, scorer]) => [metric, metricScores(scorer)])) };
}

/** Loss, perplexity and hits of given targets. */
export function teacherForcing(lines: readonly Pick<JudgedLine, 'loss' | 'numTokens' | 'numRight'>[]): Scorer {
  return sumScorer(
    lines.map(({ loss, numTokens, numRight }) => [loss, numTokens, numRight]),
    3,
    ([loss, numTokens, numRight]) => ({
      loss: loss! / numTokens!,
      perplexity: Math.exp(loss! / numTokens!),
      token_accuracy: (100 * numRight!) / numTokens!,
    }),
  );
}

function toEvaluationExample({ id, targets, references, fields }: JudgedExample): EvaluationExample {
  const known: Record<string, FieldValue> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (!isFieldValue(value))
      throw new TrainerError(
        'METRIC_INPUT_INVALID',
        `example ${id}: expected text, a number, a boolean or a list in field "${name}", found ${JSON.stringify(value)}`,
      );
    known[name] = value;
  }
  return { references: references ?? [targets], fields: known };
}

function isFieldValue(value: unknown): value is FieldValue {
  if (Array.isArray(value)) return value.every(isFieldValue);
  return ['string', 'number', 'boolean'].includes(typeof value);
}
