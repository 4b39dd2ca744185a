/**
 * DialoGLUE without MultiWOZ: intents, slots and parses, with the splits that its own scripts make. The hub has none of
 * them.
 */
import { rewrite } from './building-blocks.ts';
import { givenSplits } from './declared-splits.ts';
import { given, type ExmixTask } from './exmix-task.ts';
import { slotValues } from './structure-derivations.ts';
import { member } from './text-derivations.ts';

const note =
  'DialoGLUE is in a public list of partial ExMix sources. The total that we recall, 76,122, is the sum of these six; it does not include MultiWOZ.';
const spanColumns = {
  userInput: 'struct<text: string>',
  labels: 'list<struct<slot: string, valueSpan: struct<startIndex: int64?, endIndex: int64>>>?',
};
const slots = { text: member('userInput.text'), slots: slotValues('userInput.text', 'labels') };
const intents = (folder: string) =>
  given(
    'csv',
    `data_utils/dialoglue/${folder}/train.csv of alexa/dialoglue, made by data_utils/download_data.sh. Its header line is text,category.`,
    { quotes: true },
  );
const spans = (folder: string) =>
  given(
    'jsonl',
    `data_utils/dialoglue/${folder}/train.json of alexa/dialoglue, made by data_utils/download_data.sh, with one record on each line: jq -c '.[]'.`,
  );

export const DIALOGUE_TASKS: readonly ExmixTask[] = [
  {
    name: 'dialoglue_banking77',
    family: 'DLG',
    citation: 'Casanueva 2020 / Mehri 2020 (DialoGLUE)',
    numExamples: 8_622,
    source: intents('banking'),
    columns: { text: 'string', category: 'string' },
    rule: rewrite('banking77: {text}', '{category}'),
    splits: givenSplits('high', {
      validation: 'data_utils/dialoglue/banking/val.csv of alexa/dialoglue.',
      test: 'data_utils/dialoglue/banking/test.csv of alexa/dialoglue.',
    }),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: `${note} 77 intents, named as in the file; PolyAI/banking77 on the hub has 10,003 rows because it lacks DialoGLUE's split.`,
  },
  {
    name: 'dialoglue_clinc150',
    family: 'DLG',
    citation: 'Larson 2019 / Mehri 2020 (DialoGLUE)',
    numExamples: 15_000,
    source: intents('clinc'),
    columns: { text: 'string', category: 'string' },
    rule: rewrite('clinc150: {text}', '{category}'),
    splits: givenSplits('high', {
      validation: 'data_utils/dialoglue/clinc/val.csv of alexa/dialoglue.',
      test: 'data_utils/dialoglue/clinc/test.csv of alexa/dialoglue.',
    }),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: `${note} 150 intents, named as in the file; clinc/clinc_oos plus on the hub has 15,250 rows because it includes those out of scope.`,
  },
  {
    name: 'dialoglue_hwu64',
    family: 'DLG',
    citation: 'Liu 2019 / Mehri 2020 (DialoGLUE)',
    numExamples: 8_954,
    source: intents('hwu'),
    columns: { text: 'string', category: 'string' },
    rule: rewrite('hwu64: {text}', '{category}'),
    splits: givenSplits('high', {
      validation: 'data_utils/dialoglue/hwu/val.csv of alexa/dialoglue.',
      test: 'data_utils/dialoglue/hwu/test.csv of alexa/dialoglue.',
    }),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: `${note} 64 intents, named as in the file.`,
  },
  {
    name: 'dialoglue_restaurant8k',
    family: 'DLG',
    citation: 'Coope 2020 / Mehri 2020 (DialoGLUE)',
    numExamples: 7_244,
    source: spans('restaurant8k'),
    columns: spanColumns,
    rule: rewrite('restaurant8k: {text}', '{slots}', slots),
    splits: givenSplits('high', {
      validation:
        'data_utils/dialoglue/restaurant8k/val.json of alexa/dialoglue, with one record on each line, as the train file.',
      test: 'data_utils/dialoglue/restaurant8k/test.json of alexa/dialoglue, with one record on each line, as the train file.',
    }),
    evaluation: { metrics: ['slot_f1'], postprocess: 'slots' },
    confidence: 'high',
    note: `${note} The schema of a record is from memory: a span that starts at 0 has no startIndex, and a text without slots has no labels.`,
  },
  {
    name: 'dialoglue_dstc8_sgd',
    family: 'DLG',
    citation: 'Rastogi 2020 / Coope 2020 / Mehri 2020 (DialoGLUE)',
    numExamples: 5_023,
    source: spans('dstc8_sgd'),
    columns: spanColumns,
    rule: rewrite('dstc8_sgd: {text}', '{slots}', slots),
    splits: givenSplits('high', {
      validation:
        'data_utils/dialoglue/dstc8_sgd/val.json of alexa/dialoglue, with one record on each line, as the train file.',
      test: 'data_utils/dialoglue/dstc8_sgd/test.json of alexa/dialoglue, with one record on each line, as the train file.',
    }),
    evaluation: { metrics: ['slot_f1'], postprocess: 'slots' },
    confidence: 'high',
    note: `${note} It holds Buses_1, Events_1, Homes_1 and RentalCars_1. The schema of a record is from memory, as for restaurant8k.`,
  },
  {
    name: 'dialoglue_top',
    family: 'DLG',
    citation: 'Gupta 2018 / Mehri 2020 (DialoGLUE)',
    numExamples: 31_279,
    source: given(
      'tsv',
      'train.tsv of http://fb.me/semanticparsingdialog with a header line: (printf "utterance\\ttokens\\tparse\\n"; cat train.tsv).',
    ),
    columns: { utterance: 'string', parse: 'string' },
    rule: rewrite('top: {utterance}', '{parse}'),
    splits: givenSplits('high', {
      validation: 'eval.tsv of the archive, with the header line of the train file.',
      test: 'test.tsv of the archive, with the header line of the train file.',
    }),
    evaluation: { metrics: ['sequence_accuracy'] },
    confidence: 'high',
    note: `${note} One of the paper's representative dialogue sets (from memory). The target is the bracketed parse of IN: and SL: nodes.`,
  },
];
