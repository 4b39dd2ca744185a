/**
 * GLUE without WNLI, as T5 trains on it. T5 sorts the fields by name, so MNLI's hypothesis comes before its premise.
 */
import { labelTask, rewrite } from './building-blocks.ts';
import { hub, type ExmixTask } from './exmix-task.ts';
import { fifths } from './label-derivations.ts';

const note = 'The total that we recall of GLUE, 949,101, is the sum of the sizes of these eight. T5 leaves WNLI out.';
const dataset = 'nyu-mll/glue';
const label = 'int64';

export const GLUE_TASKS: readonly ExmixTask[] = [
  {
    name: 'glue_cola',
    family: 'CLS',
    citation: 'Warstadt 2019 (GLUE)',
    numExamples: 8_551,
    source: hub(dataset, 'cola'),
    columns: { sentence: 'string', label },
    rule: labelTask('cola sentence: {sentence}', ['unacceptable', 'acceptable']),
    metrics: ['matthews_corrcoef'],
    confidence: 'high',
    note,
  },
  {
    name: 'glue_sst2',
    family: 'CLS',
    citation: 'Socher 2013 (GLUE)',
    numExamples: 67_349,
    source: hub(dataset, 'sst2'),
    columns: { sentence: 'string', label },
    rule: labelTask('sst2 sentence: {sentence}', ['negative', 'positive']),
    metrics: ['accuracy'],
    confidence: 'high',
    note,
  },
  {
    name: 'glue_mrpc',
    family: 'OTHER:paraphrase',
    citation: 'Dolan 2005 (GLUE)',
    numExamples: 3_668,
    source: hub(dataset, 'mrpc'),
    columns: { sentence1: 'string', sentence2: 'string', label },
    rule: labelTask('mrpc sentence1: {sentence1} sentence2: {sentence2}', ['not_equivalent', 'equivalent']),
    metrics: ['f1', 'accuracy'],
    confidence: 'high',
    note,
  },
  {
    name: 'glue_qqp',
    family: 'OTHER:paraphrase',
    citation: 'Quora 2017 (GLUE)',
    numExamples: 363_849,
    source: hub(dataset, 'qqp'),
    columns: { question1: 'string', question2: 'string', label },
    rule: labelTask('qqp question1: {question1} question2: {question2}', ['not_duplicate', 'duplicate']),
    metrics: ['f1', 'accuracy'],
    confidence: 'high',
    note: `${note} The copy on the hub has 363,846 rows; T5's weight is 363,849.`,
  },
  {
    name: 'glue_stsb',
    family: 'OTHER:similarity',
    citation: 'Cer 2017 (GLUE)',
    numExamples: 5_749,
    source: hub(dataset, 'stsb'),
    columns: { sentence1: 'string', sentence2: 'string', label: 'float32' },
    rule: rewrite('stsb sentence1: {sentence1} sentence2: {sentence2}', '{score}', { score: fifths('label') }),
    metrics: ['pearson', 'spearman'],
    confidence: 'high',
    note,
  },
  {
    name: 'glue_mnli',
    family: 'NLI',
    citation: 'Williams 2018 (GLUE)',
    numExamples: 392_702,
    source: hub(dataset, 'mnli'),
    columns: { premise: 'string', hypothesis: 'string', label },
    rule: labelTask('mnli hypothesis: {hypothesis} premise: {premise}', ['entailment', 'neutral', 'contradiction']),
    metrics: ['accuracy (matched)', 'accuracy (mismatched)'],
    confidence: 'high',
    note,
  },
  {
    name: 'glue_qnli',
    family: 'NLI',
    citation: 'Rajpurkar 2016 / Wang 2019 (GLUE)',
    numExamples: 104_743,
    source: hub(dataset, 'qnli'),
    columns: { question: 'string', sentence: 'string', label },
    rule: labelTask('qnli question: {question} sentence: {sentence}', ['entailment', 'not_entailment']),
    metrics: ['accuracy'],
    confidence: 'high',
    note,
  },
  {
    name: 'glue_rte',
    family: 'NLI',
    citation: 'Dagan 2005 et al. (GLUE)',
    numExamples: 2_490,
    source: hub(dataset, 'rte'),
    columns: { sentence1: 'string', sentence2: 'string', label },
    rule: labelTask('rte sentence1: {sentence1} sentence2: {sentence2}', ['entailment', 'not_entailment']),
    metrics: ['accuracy'],
    confidence: 'high',
    note,
  },
];
