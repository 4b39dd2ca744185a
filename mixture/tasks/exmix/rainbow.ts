/** Rainbow: six sets of commonsense choices. The target is the label as the set writes it. */
import { multipleChoice } from './building-blocks.ts';
import { hubSplits } from './declared-splits.ts';
import { hub, type ExmixTask } from './exmix-task.ts';
import { numbered } from './text-derivations.ts';

const note = "The paper's abstract names Rainbow. The total that we recall, 324,742, is the sum of these six.";
const representative = `${note} One of the paper's representative commonsense sets (from memory).`;

export const RAINBOW_TASKS: readonly ExmixTask[] = [
  {
    name: 'rainbow_anli',
    family: 'NLI',
    citation: 'Bhagavatula 2020 / Lourie 2021 (Rainbow)',
    numExamples: 169_654,
    source: hub('allenai/art', 'anli'),
    columns: {
      observation_1: 'string',
      observation_2: 'string',
      hypothesis_1: 'string',
      hypothesis_2: 'string',
      label: 'int64',
    },
    rule: multipleChoice(
      'anli observation_1: {observation_1} observation_2: {observation_2} hypothesis_1: {hypothesis_1} hypothesis_2: {hypothesis_2}',
      ['1', '2'],
      'label',
    ),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: `${note} Abductive NLI; the paper's table lists it under NLI (from memory).`,
  },
  {
    name: 'rainbow_cosmosqa',
    family: 'CMNS',
    citation: 'Huang 2019 / Lourie 2021 (Rainbow)',
    numExamples: 25_262,
    source: hub('allenai/cosmos_qa'),
    columns: {
      context: 'string',
      question: 'string',
      answer0: 'string',
      answer1: 'string',
      answer2: 'string',
      answer3: 'string',
      label: 'int32',
    },
    rule: multipleChoice(
      'cosmosqa context: {context} question: {question} answer0: {answer0} answer1: {answer1} answer2: {answer2} answer3: {answer3}',
      ['0', '1', '2', '3'],
      'label',
    ),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'rainbow_hellaswag',
    family: 'CMNS',
    citation: 'Zellers 2019 / Lourie 2021 (Rainbow)',
    numExamples: 39_905,
    source: hub('Rowan/hellaswag'),
    columns: { ctx: 'string', endings: 'list<string>', label: 'string' },
    rule: multipleChoice('hellaswag context: {ctx} {endings}', ['0', '1', '2', '3'], 'label', {
      endings: numbered('endings', 'ending'),
    }),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'rainbow_physicaliqa',
    family: 'CMNS',
    citation: 'Bisk 2020 / Lourie 2021 (Rainbow)',
    numExamples: 16_113,
    source: hub('ybisk/piqa'),
    columns: { goal: 'string', sol1: 'string', sol2: 'string', label: 'int64' },
    rule: multipleChoice('physicaliqa goal: {goal} sol1: {sol1} sol2: {sol2}', ['0', '1'], 'label'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: representative,
  },
  {
    name: 'rainbow_socialiqa',
    family: 'CMNS',
    citation: 'Sap 2019 / Lourie 2021 (Rainbow)',
    numExamples: 33_410,
    source: hub('allenai/social_i_qa'),
    columns: {
      context: 'string',
      question: 'string',
      answerA: 'string',
      answerB: 'string',
      answerC: 'string',
      label: 'string',
    },
    rule: multipleChoice(
      'socialiqa context: {context} question: {question} answerA: {answerA} answerB: {answerB} answerC: {answerC}',
      ['1', '2', '3'],
      'label',
    ),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: representative,
  },
  {
    name: 'rainbow_winogrande',
    family: 'CMNS',
    citation: 'Sakaguchi 2020 / Lourie 2021 (Rainbow)',
    numExamples: 40_398,
    source: hub('allenai/winogrande', 'winogrande_xl'),
    columns: { sentence: 'string', option1: 'string', option2: 'string', answer: 'string' },
    rule: multipleChoice('winogrande sentence: {sentence} option1: {option1} option2: {option2}', ['1', '2'], 'answer'),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: representative,
  },
];
