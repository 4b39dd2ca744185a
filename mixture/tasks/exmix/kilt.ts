/** KILT: its nine sets with a train split. All have `input` and a list of `output`s; the target is the first answer. */
import { rewrite } from './building-blocks.ts';
import { firstOf } from './text-derivations.ts';
import type { Rule } from './rule.ts';
import { givenSplits, hubSplits } from './declared-splits.ts';
import { given, hub, type ExmixTask } from './exmix-task.ts';

const note =
  'KILT means its nine sets with a train split. Their sizes on the hub add up to 3,129,891; the total that we recall is 3,129,859.';
const dataset = 'facebook/kilt_tasks';
/** An output without an answer only says where the answer was found. */
const columns = { input: 'string', output: 'list<struct<answer: string?>>' };
const answer = firstOf('output[].answer');
const ask = (inputs: string): Rule => rewrite(inputs, '{answer}', { answer });

export const KILT_TASKS: readonly ExmixTask[] = [
  {
    name: 'kilt_fever',
    family: 'OTHER:fact checking',
    citation: 'Thorne 2018 / Petroni 2021 (KILT)',
    numExamples: 104_966,
    source: hub(dataset, 'fever'),
    columns,
    rule: { ...ask('kilt_fever claim: {input}'), labels: ['SUPPORTS', 'REFUTES'] },
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'kilt_aidayago2',
    family: 'OTHER:entity linking',
    citation: 'Hoffart 2011 / Petroni 2021 (KILT)',
    numExamples: 18_395,
    source: hub(dataset, 'aidayago2'),
    columns,
    rule: ask('kilt_ay2: {input}'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accepted_answer'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note: `${note} The mention stands between [START_ENT] and [END_ENT]; the answer is the title of its page.`,
  },
  {
    name: 'kilt_trex',
    family: 'OTHER:slot filling',
    citation: 'Elsahar 2018 / Petroni 2021 (KILT)',
    numExamples: 2_284_168,
    source: hub(dataset, 'trex'),
    columns,
    rule: ask('kilt_trex: {input}'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accepted_answer', 'squad'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note: `${note} The input is "subject [SEP] relation".`,
  },
  {
    name: 'kilt_zsre',
    family: 'OTHER:slot filling',
    citation: 'Levy 2017 / Petroni 2021 (KILT)',
    numExamples: 147_909,
    source: hub(dataset, 'structured_zeroshot'),
    columns,
    rule: ask('kilt_zsre: {input}'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accepted_answer', 'squad'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note: `${note} The input is "subject [SEP] relation".`,
  },
  {
    name: 'kilt_nq',
    family: 'CBQA',
    citation: 'Kwiatkowski 2019 / Petroni 2021 (KILT)',
    numExamples: 87_372,
    source: hub(dataset, 'nq'),
    columns,
    rule: ask('kilt_nq question: {input}'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['squad'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note: `${note} Natural Questions is one of the paper's representative closed-book sets (from memory).`,
  },
  {
    name: 'kilt_hotpotqa',
    family: 'CBQA',
    citation: 'Yang 2018 / Petroni 2021 (KILT)',
    numExamples: 88_869,
    source: hub(dataset, 'hotpotqa'),
    columns,
    rule: ask('kilt_hotpotqa question: {input}'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['squad'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note: `${note} HotpotQA is one of the paper's representative closed-book sets (from memory).`,
  },
  {
    name: 'kilt_triviaqa',
    family: 'CBQA',
    citation: 'Joshi 2017 / Petroni 2021 (KILT)',
    numExamples: 61_844,
    source: given(
      'jsonl',
      'triviaqa-train-kilt.jsonl of facebookresearch/KILT. Its script get_triviaqa_input.py must have added the questions: the rows on the hub (facebook/kilt_tasks, config triviaqa_support_only) have an empty input.',
    ),
    columns,
    rule: ask('kilt_triviaqa question: {input}'),
    splits: givenSplits('high', {
      validation:
        'triviaqa-dev-kilt.jsonl of facebookresearch/KILT, with the questions that get_triviaqa_input.py adds.',
    }),
    evaluation: { metrics: ['squad'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note,
  },
  {
    name: 'kilt_eli5',
    family: 'CBQA',
    citation: 'Fan 2019 / Petroni 2021 (KILT)',
    numExamples: 272_634,
    source: hub(dataset, 'eli5'),
    columns,
    rule: ask('kilt_eli5 question: {input}'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['gem_rouge', 'squad'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note,
  },
  {
    name: 'kilt_wow',
    family: 'DLG',
    citation: 'Dinan 2019 / Petroni 2021 (KILT)',
    numExamples: 63_734,
    source: hub(dataset, 'wow'),
    columns,
    rule: ask('kilt_wow context: {input}'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['squad', 'gem_rouge'], references: { path: 'output[].answer' } },
    confidence: 'high',
    note: `${note} Wizard of Wikipedia is one of the paper's representative dialogue sets (from memory).`,
  },
];
