/**
 * Sentences → meaning representations: FunQL in three domains, and COGS. They are published as TSV files without a
 * header line.
 */
import { rewrite } from './building-blocks.ts';
import { givenSplits } from './declared-splits.ts';
import { given, type ExmixTask } from './exmix-task.ts';

const note =
  'Parsing to FunQL is in a public list of partial ExMix sources. The total that we recall, 5,565, is 4,465 + 600 + 500 rows of the public files.';
const columns = { utterance: 'string', funql: 'string' };
const unimer = (file: string) =>
  given('tsv', `${file} of JasperGuo/Unimer with a header line: (printf "utterance\\tfunql\\n"; cat FILE).`);

export const SEMANTIC_PARSING_TASKS: readonly ExmixTask[] = [
  {
    name: 'funql_atis',
    family: 'SEM',
    citation: 'Guo 2020 (Unimer)',
    numExamples: 4_465,
    source: unimer('data/atis/atis_funql_train.tsv'),
    columns,
    rule: rewrite('parse to funql atis: {utterance}', '{funql}'),
    splits: givenSplits('high', {
      validation: 'data/atis/atis_funql_dev.tsv of JasperGuo/Unimer, with the header line of the train file.',
      test: 'data/atis/atis_funql_test.tsv of JasperGuo/Unimer, with the header line of the train file.',
    }),
    evaluation: { metrics: ['sequence_accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'funql_geo',
    family: 'SEM',
    citation: 'Guo 2020 (Unimer)',
    numExamples: 600,
    source: unimer('data/geo/geo_funql_train.tsv'),
    columns,
    rule: rewrite('parse to funql geo: {utterance}', '{funql}'),
    splits: givenSplits('high', {
      test: 'data/geo/geo_funql_test.tsv of JasperGuo/Unimer, with the header line of the train file.',
    }),
    evaluation: { metrics: ['sequence_accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'funql_jobs',
    family: 'SEM',
    citation: 'Guo 2020 (Unimer)',
    numExamples: 500,
    source: unimer('data/job/job_funql_train_fixed.tsv'),
    columns,
    rule: rewrite('parse to funql jobs: {utterance}', '{funql}'),
    splits: givenSplits('high', {
      test: 'data/job/job_funql_test_fixed.tsv of JasperGuo/Unimer, with the header line of the train file.',
    }),
    evaluation: { metrics: ['sequence_accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'cogs',
    family: 'SEM',
    citation: 'Kim 2020',
    numExamples: 24_155,
    source: given(
      'tsv',
      'data/train.tsv of najoungkim/COGS with a header line: (printf "sentence\\tform\\tkind\\n"; cat train.tsv).',
    ),
    columns: { sentence: 'string', form: 'string' },
    rule: rewrite('cogs: {sentence}', '{form}'),
    splits: givenSplits('high', {
      validation: 'data/dev.tsv of najoungkim/COGS, with the header line of the train file.',
      test: 'data/test.tsv of najoungkim/COGS, with the header line of the train file; its gen.tsv tests generalization and is another set.',
    }),
    evaluation: { metrics: ['sequence_accuracy'] },
    confidence: 'high',
    note: "It is in a public list of partial ExMix sources, and one of the paper's representative semantic-parsing sets (from memory).",
  },
];
