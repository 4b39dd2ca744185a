/** Made-up rows of Rainbow. Schemas: the metadata of art, cosmos_qa, hellaswag, piqa, social_i_qa and winogrande. */
import type { Examples } from './made-up-rows.ts';

export const RAINBOW_ROWS: Examples = {
  rainbow_anli: {
    rows: [
      {
        observation_1: 'Mia baked.',
        observation_2: 'The smoke alarm rang.',
        hypothesis_1: 'She forgot the cake.',
        hypothesis_2: 'She ate the cake.',
        label: 1,
      },
      {
        observation_1: 'Leo ran.',
        observation_2: 'He caught the bus.',
        hypothesis_1: 'He fell.',
        hypothesis_2: 'He was fast.',
        label: 2,
      },
    ],
    expected: [
      [
        'anli observation_1: Mia baked. observation_2: The smoke alarm rang. hypothesis_1: She forgot the cake. hypothesis_2: She ate the cake.',
        '1',
      ],
      [
        'anli observation_1: Leo ran. observation_2: He caught the bus. hypothesis_1: He fell. hypothesis_2: He was fast.',
        '2',
      ],
    ],
  },
  rainbow_cosmosqa: {
    otherColumns: { id: 'string' },
    rows: [
      {
        id: 'a',
        context: 'It rained.',
        question: 'Why stay in?',
        answer0: 'Rain',
        answer1: 'Sun',
        answer2: 'Snow',
        answer3: 'None',
        label: 0,
      },
      {
        id: 'b',
        context: 'The cat left.',
        question: 'Who left?',
        answer0: 'A dog',
        answer1: 'A man',
        answer2: 'Nobody',
        answer3: 'A cat',
        label: 3,
      },
      {
        id: 'c',
        context: 'Hidden.',
        question: 'What?',
        answer0: 'a',
        answer1: 'b',
        answer2: 'c',
        answer3: 'd',
        label: -1,
      },
    ],
    expected: [
      [
        'cosmosqa context: It rained. question: Why stay in? answer0: Rain answer1: Sun answer2: Snow answer3: None',
        '0',
      ],
      [
        'cosmosqa context: The cat left. question: Who left? answer0: A dog answer1: A man answer2: Nobody answer3: A cat',
        '3',
      ],
      ['cosmosqa context: Hidden. question: What? answer0: a answer1: b answer2: c answer3: d', '<unk>'],
    ],
  },
  rainbow_hellaswag: {
    otherColumns: {
      ind: 'int32',
      activity_label: 'string',
      ctx_a: 'string',
      ctx_b: 'string',
      source_id: 'string',
      split: 'string',
      split_type: 'string',
    },
    rows: [
      {
        ind: 4,
        activity_label: 'Baking',
        ctx_a: 'A man opens the oven.',
        ctx_b: 'he',
        ctx: 'A man opens the oven. he',
        endings: ['swims.', 'takes out bread.', 'drives off.', 'sings.'],
        source_id: 'made~up',
        split: 'train',
        split_type: 'indomain',
        label: '1',
      },
      {
        ind: 5,
        activity_label: 'Rowing',
        ctx_a: 'Two girls row.',
        ctx_b: 'they',
        ctx: 'Two girls row. they',
        endings: ['reach the shore.', 'bake.', 'paint.', 'fly.'],
        source_id: 'made~up',
        split: 'train',
        split_type: 'zeroshot',
        label: '0',
      },
    ],
    expected: [
      [
        'hellaswag context: A man opens the oven. he ending0: swims. ending1: takes out bread. ending2: drives off. ending3: sings.',
        '1',
      ],
      [
        'hellaswag context: Two girls row. they ending0: reach the shore. ending1: bake. ending2: paint. ending3: fly.',
        '0',
      ],
    ],
  },
  rainbow_physicaliqa: {
    rows: [
      { goal: 'dry a boot', sol1: 'Fill it with paper.', sol2: 'Fill it with tea.', label: 0 },
      { goal: 'chill tea', sol1: 'Boil it.', sol2: 'Add ice.', label: 1 },
    ],
    expected: [
      ['physicaliqa goal: dry a boot sol1: Fill it with paper. sol2: Fill it with tea.', '0'],
      ['physicaliqa goal: chill tea sol1: Boil it. sol2: Add ice.', '1'],
    ],
  },
  rainbow_socialiqa: {
    rows: [
      {
        context: 'Sam lent Kim a coat.',
        question: 'How is Kim?',
        answerA: 'warm',
        answerB: 'cross',
        answerC: 'late',
        label: '1\n',
      },
      {
        context: 'Kim lost it.',
        question: 'How is Sam?',
        answerA: 'tall',
        answerB: 'glad',
        answerC: 'upset',
        label: '3\n',
      },
    ],
    expected: [
      ['socialiqa context: Sam lent Kim a coat. question: How is Kim? answerA: warm answerB: cross answerC: late', '1'],
      ['socialiqa context: Kim lost it. question: How is Sam? answerA: tall answerB: glad answerC: upset', '3'],
    ],
  },
  rainbow_winogrande: {
    rows: [
      { sentence: 'The pan did not fit the box because the _ was small.', option1: 'pan', option2: 'box', answer: '2' },
      { sentence: 'The pan did not fit the box because the _ was wide.', option1: 'pan', option2: 'box', answer: '1' },
    ],
    expected: [
      ['winogrande sentence: The pan did not fit the box because the _ was small. option1: pan option2: box', '2'],
      ['winogrande sentence: The pan did not fit the box because the _ was wide. option1: pan option2: box', '1'],
    ],
  },
};
