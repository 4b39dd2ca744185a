/** Made-up rows of GLUE. Schemas: the metadata of nyu-mll/glue. */
import type { Examples } from './made-up-rows.ts';

const otherColumns = { idx: 'int32' };

export const GLUE_ROWS: Examples = {
  glue_cola: {
    otherColumns,
    rows: [
      { sentence: 'The gardener watered the roses.', label: 1, idx: 0 },
      { sentence: 'Roses the  watered gardener.', label: 0, idx: 1 },
      { sentence: 'A row of the hidden test set.', label: -1, idx: 2 },
    ],
    expected: [
      ['cola sentence: The gardener watered the roses.', 'acceptable'],
      ['cola sentence: Roses the watered gardener.', 'unacceptable'],
      ['cola sentence: A row of the hidden test set.', '<unk>'],
    ],
  },
  glue_sst2: {
    otherColumns,
    rows: [
      { sentence: 'a warm and clever film ', label: 1, idx: 0 },
      { sentence: 'two hours too long ', label: 0, idx: 1 },
    ],
    expected: [
      ['sst2 sentence: a warm and clever film', 'positive'],
      ['sst2 sentence: two hours too long', 'negative'],
    ],
  },
  glue_mrpc: {
    otherColumns,
    rows: [
      { sentence1: 'Sales rose 4 % in May .', sentence2: 'In May , sales went up by 4 % .', label: 1, idx: 0 },
      { sentence1: 'Sales rose 4 % in May .', sentence2: 'Sales fell in June .', label: 0, idx: 7 },
    ],
    expected: [
      ['mrpc sentence1: Sales rose 4 % in May . sentence2: In May , sales went up by 4 % .', 'equivalent'],
      ['mrpc sentence1: Sales rose 4 % in May . sentence2: Sales fell in June .', 'not_equivalent'],
    ],
  },
  glue_qqp: {
    otherColumns,
    rows: [
      { question1: 'How do I boil an egg?', question2: 'What is the way to boil eggs?', label: 1, idx: 0 },
      { question1: 'How do I boil an egg?', question2: 'Where do eggs come from?', label: 0, idx: 1 },
    ],
    expected: [
      ['qqp question1: How do I boil an egg? question2: What is the way to boil eggs?', 'duplicate'],
      ['qqp question1: How do I boil an egg? question2: Where do eggs come from?', 'not_duplicate'],
    ],
  },
  glue_stsb: {
    otherColumns,
    rows: [
      { sentence1: 'A dog runs.', sentence2: 'A dog is running.', label: 4.75, idx: 0 },
      { sentence1: 'A dog runs.', sentence2: 'A plane lands.', label: 0, idx: 1 },
      { sentence1: 'A man sings.', sentence2: 'A man hums a song.', label: 2.5, idx: 2 },
      { sentence1: 'It rains.', sentence2: 'It is raining.', label: 5, idx: 3 },
    ],
    expected: [
      ['stsb sentence1: A dog runs. sentence2: A dog is running.', '4.8'],
      ['stsb sentence1: A dog runs. sentence2: A plane lands.', '0.0'],
      ['stsb sentence1: A man sings. sentence2: A man hums a song.', '2.4'],
      ['stsb sentence1: It rains. sentence2: It is raining.', '5.0'],
    ],
  },
  glue_mnli: {
    otherColumns,
    rows: [
      { premise: 'The bridge was closed all winter.', hypothesis: 'Nobody crossed it in January.', label: 1, idx: 0 },
      { premise: 'She has two brothers.', hypothesis: 'She has brothers.', label: 0, idx: 1 },
      { premise: 'The shop opens at nine.', hypothesis: 'The shop opens at ten.', label: 2, idx: 2 },
    ],
    expected: [
      ['mnli hypothesis: Nobody crossed it in January. premise: The bridge was closed all winter.', 'neutral'],
      ['mnli hypothesis: She has brothers. premise: She has two brothers.', 'entailment'],
      ['mnli hypothesis: The shop opens at ten. premise: The shop opens at nine.', 'contradiction'],
    ],
  },
  glue_qnli: {
    otherColumns,
    rows: [
      { question: 'When was the mill built?', sentence: 'The mill dates from 1820.', label: 0, idx: 0 },
      { question: 'Who owns the mill?', sentence: 'The mill dates from 1820.', label: 1, idx: 1 },
    ],
    expected: [
      ['qnli question: When was the mill built? sentence: The mill dates from 1820.', 'entailment'],
      ['qnli question: Who owns the mill? sentence: The mill dates from 1820.', 'not_entailment'],
    ],
  },
  glue_rte: {
    otherColumns,
    rows: [
      { sentence1: 'Ana won the race on Sunday.', sentence2: 'Ana won a race.', label: 0, idx: 0 },
      { sentence1: 'Ana won the race on Sunday.', sentence2: 'Ana lost.', label: 1, idx: 1 },
    ],
    expected: [
      ['rte sentence1: Ana won the race on Sunday. sentence2: Ana won a race.', 'entailment'],
      ['rte sentence1: Ana won the race on Sunday. sentence2: Ana lost.', 'not_entailment'],
    ],
  },
};
