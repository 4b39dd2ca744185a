/** Whether one text follows from another: the single sets of the family NLI. */
import { labelTask, namedLabel, rewrite } from './building-blocks.ts';
import { givenSplits, hubSplits, type DeclaredSet } from './declared-splits.ts';
import { given, hub, type ExmixTask } from './exmix-task.ts';
import { className, oneOf } from './label-derivations.ts';

const LABELS = ['entailment', 'neutral', 'contradiction'];

function anliRound(split: 'dev' | 'test', round: string): DeclaredSet {
  return { kind: 'split', name: `${split}_r${round}`, files: [`plain_text/${split}_r${round}-*.parquet`] };
}

export const INFERENCE_TASKS: readonly ExmixTask[] = [
  {
    name: 'anli',
    family: 'NLI',
    citation: 'Nie 2020',
    numExamples: 162_865,
    source: hub('facebook/anli', undefined, 'train_r1+train_r2+train_r3', {
      files: ['1', '2', '3'].map((round) => `plain_text/train_r${round}-*.parquet`),
    }),
    columns: { premise: 'string', hypothesis: 'string', label: 'int64' },
    rule: labelTask('anli hypothesis: {hypothesis} premise: {premise}', LABELS),
    splits: {
      validation: ['1', '2', '3'].map((round) => anliRound('dev', round)),
      test: ['1', '2', '3'].map((round) => anliRound('test', round)),
      confidence: 'high',
    },
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: "One of the paper's representative NLI sets (from memory). The size that we recall is 16,946 + 45,460 + 100,459: three rounds as one task.",
  },
  {
    name: 'agree_sum',
    family: 'NLI',
    citation: 'Pang 2021 (AgreeSum)',
    numExamples: 7_750,
    source: given(
      'jsonl',
      'The entailment annotations of the AgreeSum authors, one record on each line, with article, summary and label (entailed or not_entailed).',
    ),
    columns: { article: 'string', summary: 'string', label: 'string' },
    rule: namedLabel(
      'agree_sum article: {article} summary: {summary}',
      ['entailed', 'not_entailed'],
      oneOf('label', ['entailed', 'not_entailed']),
    ),
    splits: givenSplits('low', {
      validation: 'The development part of the entailment annotations, as the train file.',
      test: 'The test part of the entailment annotations, as the train file.',
    }),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: 'A row of the appendix, from memory (article and summary). It shares an author with ExT5. The schema and the label names are from memory: check them against the release.',
  },
  {
    name: 'esnli',
    family: 'NLI',
    citation: 'Camburu 2018',
    numExamples: 549_367,
    source: hub('esnli/esnli'),
    columns: { premise: 'string', hypothesis: 'string', label: 'int64', explanation_1: 'string' },
    rule: rewrite('explain nli hypothesis: {hypothesis} premise: {premise}', '{label} explanation: {explanation_1}', {
      label: className('label', LABELS),
    }),
    splits: hubSplits(['validation'], ['test']),
    evaluation: { metrics: ['accuracy', 'bleu'], postprocess: 'explained_label', labels: LABELS },
    confidence: 'low',
    note: "Probably a row of the paper's appendix, from memory; there is nothing to check it against.",
  },
  {
    name: 'scitail',
    family: 'NLI',
    citation: 'Khot 2018',
    numExamples: 23_097,
    source: hub('allenai/scitail', 'tsv_format'),
    columns: { premise: 'string', hypothesis: 'string', label: 'string' },
    rule: namedLabel(
      'scitail premise: {premise} hypothesis: {hypothesis}',
      ['entails', 'neutral'],
      oneOf('label', ['entails', 'neutral']),
    ),
    splits: hubSplits(['validation'], ['test']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'low',
    note: 'A filler: a plausible set, chosen so that the count is 107.',
  },
];
