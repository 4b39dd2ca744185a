/** The metrics that a task may name. The compiler checks that each name has one, for values of its kind. */
import type { METRIC_KINDS } from '../shared/task-evaluation.ts';
import { type MetricName } from '../shared/task-evaluation.ts';
import type { PredictionOf, TargetOf } from './compared-values.ts';
import { bleu } from './metrics/bleu.ts';
import { caption } from './metrics/caption.ts';
import { chrf } from './metrics/chrf.ts';
import {
  accuracy,
  f1WithInvalid,
  macroF1,
  matthewsCorrcoef,
  meanMulticlassF1,
  multiLabelF1,
  sequenceAccuracy,
} from './metrics/classification.ts';
import { pearsonCorrcoef, spearmanCorrcoef } from './metrics/correlation.ts';
import { editDistance } from './metrics/edit-distance.ts';
import { meteor, type Synonyms } from './metrics/meteor.ts';
import { acceptedAnswer, coqaF1, multiRc, record, spanSquad, squad, triviaQa } from './metrics/question-answering.ts';
import { gemRouge, rouge } from './metrics/rouge.ts';
import { sari } from './metrics/sari.ts';
import type { Metric } from './metrics/scorer.ts';
import { slotF1 } from './metrics/spans.ts';
import { ter } from './metrics/ter.ts';

export interface MetricContext {
  /** Labels of the post-processor; empty if it has none. */
  readonly labels: readonly string[];
  /** For METEOR. Left out: without synonyms. */
  readonly synonyms?: Synonyms;
}

type KindOf<Name extends MetricName> = (typeof METRIC_KINDS)[Name];
type Metrics = {
  readonly [Name in MetricName]: (context: MetricContext) => Metric<TargetOf<KindOf<Name>>, PredictionOf<KindOf<Name>>>;
};

const classes = ({ labels }: MetricContext): number[] => labels.map((_, label) => label);

export const METRICS: Metrics = {
  accuracy: () => accuracy,
  matthews_corrcoef: () => matthewsCorrcoef,
  f1_score_with_invalid: () => f1WithInvalid,
  mean_multiclass_f1: ({ labels }) => meanMulticlassF1(labels.length),
  macro_f1: (context) => macroF1(classes(context)),
  multi_label_f1: ({ labels }) => multiLabelF1(labels),
  pearson_corrcoef: () => pearsonCorrcoef,
  spearman_corrcoef: () => spearmanCorrcoef,
  sequence_accuracy: () => sequenceAccuracy,
  rouge: () => rouge(),
  edit_distance: () => editDistance(),
  accepted_answer: () => acceptedAnswer,
  squad: () => squad,
  trivia_qa: () => triviaQa,
  coqa_f1: () => coqaF1,
  bleu: () => bleu({ tokenizer: 'intl' }),
  bleu_13a: () => bleu({ tokenizer: '13a' }),
  gem_bleu: () => bleu({ tokenizer: '13a', lowercase: true }),
  gem_rouge: () => gemRouge,
  meteor: ({ synonyms }) => meteor(synonyms === undefined ? {} : { synonyms }),
  chrf: () => chrf(),
  ter: () => ter(),
  caption: () => caption,
  sari: () => sari,
  span_squad: () => spanSquad,
  multirc: () => multiRc,
  record: () => record,
  slot_f1: () => slotF1,
};
