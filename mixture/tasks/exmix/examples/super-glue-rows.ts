/** Made-up rows of SuperGLUE and of the definite pronoun set. Schemas: the metadata of super_glue and definite_pronoun_resolution. */
import type { Examples } from './made-up-rows.ts';

const otherColumns = { idx: 'int32' };

export const SUPER_GLUE_ROWS: Examples = {
  super_glue_boolq: {
    otherColumns,
    rows: [
      { question: 'is the lake salty', passage: 'Lake Amra is a salt lake.', idx: 0, label: 1 },
      { question: 'is the lake deep', passage: 'Lake Amra is a metre deep.', idx: 1, label: 0 },
    ],
    expected: [
      ['boolq passage: Lake Amra is a salt lake. question: is the lake salty', 'True'],
      ['boolq passage: Lake Amra is a metre deep. question: is the lake deep', 'False'],
    ],
  },
  super_glue_cb: {
    otherColumns,
    rows: [
      { premise: 'I do not think they paid.', hypothesis: 'they paid', idx: 0, label: 1 },
      { premise: 'She knew that they paid.', hypothesis: 'they paid', idx: 1, label: 0 },
      { premise: 'She asked if they paid.', hypothesis: 'they paid', idx: 2, label: 2 },
    ],
    expected: [
      ['cb hypothesis: they paid premise: I do not think they paid.', 'contradiction'],
      ['cb hypothesis: they paid premise: She knew that they paid.', 'entailment'],
      ['cb hypothesis: they paid premise: She asked if they paid.', 'neutral'],
    ],
  },
  super_glue_copa: {
    otherColumns,
    rows: [
      {
        premise: 'The ice broke.',
        choice1: 'It was warm.',
        choice2: 'It was dark.',
        question: 'cause',
        idx: 0,
        label: 0,
      },
      {
        premise: 'He fell asleep.',
        choice1: 'He sang.',
        choice2: 'He missed the stop.',
        question: 'effect',
        idx: 1,
        label: 1,
      },
    ],
    expected: [
      ['copa choice1: It was warm. choice2: It was dark. premise: The ice broke. question: cause', 'choice1'],
      ['copa choice1: He sang. choice2: He missed the stop. premise: He fell asleep. question: effect', 'choice2'],
    ],
  },
  super_glue_multirc: {
    otherColumns: { idx: 'struct<paragraph: int32, question: int32, answer: int32>' },
    rows: [
      {
        paragraph: '<b>Sent 1: </b>Tom has a boat.<br><b>Sent 2: </b>It is red.<br>',
        question: 'What colour is it?',
        answer: 'Red',
        idx: { paragraph: 0, question: 0, answer: 0 },
        label: 1,
      },
      {
        paragraph: '<b>Sent 1: </b>Tom has a boat.<br>',
        question: 'Whose boat is it?',
        answer: 'Mia<br>',
        idx: { paragraph: 1, question: 0, answer: 1 },
        label: 0,
      },
    ],
    expected: [
      [
        'multirc question: What colour is it? answer: Red paragraph: Sent 1: Tom has a boat. Sent 2: It is red.',
        'True',
      ],
      ['multirc question: Whose boat is it? answer: Mia paragraph: Sent 1: Tom has a boat.', 'False'],
    ],
  },
  super_glue_record: {
    otherColumns: { idx: 'struct<passage: int32, query: int32>' },
    rows: [
      {
        passage: 'Vela beat Orso in the final.\n@highlight\nVela is from Porto\n@highlight\nThe final was short',
        query: 'The trophy went to @placeholder',
        entities: ['Vela', 'Orso', 'Porto'],
        answers: ['Vela', 'Vela of Porto'],
        idx: { passage: 0, query: 0 },
      },
      {
        passage: 'Nobody came.',
        query: '@placeholder came',
        entities: ['Nobody'],
        answers: [],
        idx: { passage: 1, query: 0 },
      },
    ],
    expected: [
      [
        'record query: The trophy went to @placeholder entities: Vela, Orso, Porto passage: Vela beat Orso in the final. Vela is from Porto. The final was short',
        'Vela',
      ],
      [
        'record query: The trophy went to @placeholder entities: Vela, Orso, Porto passage: Vela beat Orso in the final. Vela is from Porto. The final was short',
        'Vela of Porto',
      ],
      ['record query: @placeholder came entities: Nobody passage: Nobody came.', '<unk>'],
    ],
  },
  super_glue_rte: {
    otherColumns,
    rows: [
      { premise: 'The mayor opened the pool.', hypothesis: 'A pool was opened.', idx: 0, label: 0 },
      { premise: 'The mayor opened the pool.', hypothesis: 'A school was opened.', idx: 1, label: 1 },
    ],
    expected: [
      ['rte hypothesis: A pool was opened. premise: The mayor opened the pool.', 'entailment'],
      ['rte hypothesis: A school was opened. premise: The mayor opened the pool.', 'not_entailment'],
    ],
  },
  super_glue_wic: {
    otherColumns: { start1: 'int32', start2: 'int32', end1: 'int32', end2: 'int32', idx: 'int32' },
    rows: [
      {
        word: 'bank',
        sentence1: 'We sat on the bank.',
        sentence2: 'The bank was shut.',
        start1: 14,
        start2: 4,
        end1: 18,
        end2: 8,
        idx: 0,
        label: 0,
      },
      {
        word: 'cup',
        sentence1: 'A cup of tea.',
        sentence2: 'She broke the cup.',
        start1: 2,
        start2: 14,
        end1: 5,
        end2: 17,
        idx: 1,
        label: 1,
      },
    ],
    expected: [
      ['wic sentence1: We sat on the bank. sentence2: The bank was shut. word: bank', 'False'],
      ['wic sentence1: A cup of tea. sentence2: She broke the cup. word: cup', 'True'],
    ],
  },
  super_glue_wsc: {
    otherColumns: { span1_index: 'int32', idx: 'int32' },
    rows: [
      {
        text: 'Ann asked Bea if she could help.',
        span1_index: 2,
        span2_index: 4,
        span1_text: 'Bea',
        span2_text: 'she',
        idx: 0,
        label: 1,
      },
      {
        text: 'Ann asked Bea if she could help.',
        span1_index: 0,
        span2_index: 4,
        span1_text: 'Ann',
        span2_text: 'she',
        idx: 1,
        label: 0,
      },
      {
        text: 'Jo laughed . "Good for him," he said. ',
        span1_index: 0,
        span2_index: 5,
        span1_text: 'Jo',
        span2_text: 'him',
        idx: 2,
        label: 1,
      },
      {
        text: 'They might want to use it , but not now.',
        span1_index: 0,
        span2_index: 4,
        span1_text: 'the pebble',
        span2_text: 'it',
        idx: 3,
        label: 1,
      },
    ],
    expected: [
      ['wsc: Ann asked Bea if *she* could help.', 'Bea'],
      ['wsc: Jo laughed . "Good for *him* ," he said.', 'Jo'],
      ['wsc: They might want to use *it* , but not now.', 'the pebble'],
    ],
  },
  dpr: {
    rows: [
      { sentence: 'The fox saw the hen, and it hid.', pronoun: 'it', candidates: ['The fox', 'the hen'], label: 1 },
      { sentence: 'Leo thanked Max because he had helped him.', pronoun: 'he', candidates: ['Leo', 'Max'], label: 1 },
      {
        sentence: 'The cook fed the guest until the guest thanked him.',
        pronoun: 'him',
        candidates: ['The cook', 'the guest'],
        label: 0,
      },
    ],
    expected: [
      ['wsc: The fox saw the hen, and *it* hid.', 'the hen'],
      ['wsc: Leo thanked Max because *he* had helped him.', 'Max'],
      ['wsc: The cook fed the guest until the guest thanked *him*.', 'The cook'],
    ],
  },
};
