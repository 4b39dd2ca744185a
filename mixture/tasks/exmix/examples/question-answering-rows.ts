/** Made-up rows of the sets of question-answering.ts. Schemas: the metadata of the sets of those names. */
import type { Examples } from './made-up-rows.ts';

export const QUESTION_ANSWERING_ROWS: Examples = {
  squad_v1: {
    otherColumns: { id: 'string', title: 'string' },
    fullColumns: { answers: 'struct<text: list<string>, answer_start: list<int32>>' },
    rows: [
      {
        id: 'a',
        title: 'Mill',
        context: "The mill (1820) is Ana's.",
        question: 'Whose mill is it?',
        answers: { text: ["Ana's", 'Ana'], answer_start: [19, 19] },
      },
      {
        id: 'b',
        title: 'Mill',
        context: 'It cost $5,000.',
        question: 'What did it cost?',
        answers: { text: ['$5,000.'], answer_start: [8] },
      },
    ],
    expected: [
      ["question: Whose mill is it ? context: The mill ( 1820 ) is Ana ' s .", "Ana ' s"],
      ['question: What did it cost ? context: It cost $ 5 , 000 .', '$ 5 , 000 .'],
    ],
  },
  tweet_qa: {
    otherColumns: { qid: 'string' },
    rows: [
      {
        Question: 'who sings?',
        Answer: ['ana', 'ana vela'],
        Tweet: 'Ana sings tonight! Ana (@ana) May 1, 2019',
        qid: '1',
      },
      { Question: 'when?', Answer: ['tonight'], Tweet: 'Ana sings tonight!', qid: '2' },
    ],
    expected: [
      ['tweet_qa question: who sings? tweet: Ana sings tonight! Ana (@ana) May 1, 2019', 'ana'],
      ['tweet_qa question: when? tweet: Ana sings tonight!', 'tonight'],
    ],
  },
  trivia_qa_closed_book: {
    otherColumns: { question_id: 'string', question_source: 'string' },
    fullColumns: {
      answer:
        'struct<aliases: list<string>, normalized_aliases: list<string>, matched_wiki_entity_name: string, normalized_matched_wiki_entity_name: string, normalized_value: string, type: string, value: string>',
    },
    rows: [
      {
        question: 'Which bird sleeps on the wing?',
        question_id: 'tc_1',
        question_source: 'http://example.org',
        answer: {
          aliases: ['Swift', 'The swift'],
          normalized_aliases: ['swift'],
          matched_wiki_entity_name: '',
          normalized_matched_wiki_entity_name: '',
          normalized_value: 'swift',
          type: 'WikipediaEntity',
          value: 'Swift',
        },
      },
      {
        question: 'What grinds corn?',
        question_id: 'tc_2',
        question_source: 'http://example.org',
        answer: {
          aliases: ['Mill'],
          normalized_aliases: ['mill'],
          matched_wiki_entity_name: '',
          normalized_matched_wiki_entity_name: '',
          normalized_value: 'mill',
          type: 'FreeForm',
          value: 'A mill',
        },
      },
    ],
    expected: [
      ['trivia question: Which bird sleeps on the wing?', 'Swift'],
      ['trivia question: What grinds corn?', 'A mill'],
    ],
  },
  news_quiz_qa: {
    otherColumns: { url: 'string' },
    rows: [
      {
        url: 'http://example.org/1',
        article: 'The mill burned on Monday.',
        question: 'What burned on Monday?',
        answer: 'The mill',
      },
      { url: 'http://example.org/2', article: 'Vela won in Lyra.', question: 'Who won in Lyra?', answer: 'Vela' },
    ],
    expected: [
      ['news_quiz_qa: The mill burned on Monday.', 'question: What burned on Monday? answer: The mill'],
      ['news_quiz_qa: Vela won in Lyra.', 'question: Who won in Lyra? answer: Vela'],
    ],
  },
  drop: {
    otherColumns: { section_id: 'string', query_id: 'string' },
    fullColumns: { answers_spans: 'struct<spans: list<string>, types: list<string>>' },
    rows: [
      {
        section_id: 's',
        query_id: 'a',
        passage: 'Ana scored 3, Leo 5.',
        question: 'How many more for Leo?',
        answers_spans: { spans: ['2'], types: ['number'] },
      },
      {
        section_id: 's',
        query_id: 'b',
        passage: 'Ana scored 3, Leo 5.',
        question: 'Who scored?',
        answers_spans: { spans: ['Ana', 'Leo'], types: ['span', 'span'] },
      },
    ],
    expected: [
      ['drop question: How many more for Leo? passage: Ana scored 3, Leo 5.', '2'],
      ['drop question: Who scored? passage: Ana scored 3, Leo 5.', 'Ana'],
    ],
  },
  race: {
    otherColumns: { example_id: 'string' },
    rows: [
      {
        example_id: 'high1.txt',
        article: 'The mill is old.',
        answer: 'B',
        question: 'The mill is _ .',
        options: ['new', 'old', 'red', 'gone'],
      },
      {
        example_id: 'high2.txt',
        article: 'Ana rows.',
        answer: 'A',
        question: 'Who rows?',
        options: ['Ana', 'Leo', 'Mia', 'Sam'],
      },
    ],
    expected: [
      ['race question: The mill is _ . options: (A) new (B) old (C) red (D) gone article: The mill is old.', 'B'],
      ['race question: Who rows? options: (A) Ana (B) Leo (C) Mia (D) Sam article: Ana rows.', 'A'],
    ],
  },
  nq_open_closed_book: {
    rows: [
      { question: 'who built the old mill', answer: ['Ana Vela', 'Vela'] },
      { question: 'where is mount ona', answer: ['Iceland'] },
    ],
    expected: [
      ['nq question: who built the old mill', 'Ana Vela'],
      ['nq question: where is mount ona', 'Iceland'],
    ],
  },
  web_questions_closed_book: {
    otherColumns: { url: 'string' },
    rows: [
      { url: 'http://example.org/1', question: 'what did ana vela write?', answers: ['Oars', 'Boats'] },
      { url: 'http://example.org/2', question: 'where was orso born?', answers: ['Lyra'] },
    ],
    expected: [
      ['wq question: what did ana vela write?', 'Oars'],
      ['wq question: where was orso born?', 'Lyra'],
    ],
  },
  eraser_multi_rc: {
    rows: [
      {
        passage: 'Tom has a boat .\nIt is red .',
        query_and_answer: 'What colour is it ? || Red',
        label: 1,
        evidences: ['Tom has a boat .', 'It is red .'],
      },
      {
        passage: 'Tom has a boat .',
        query_and_answer: 'Whose is it ? || Mia',
        label: 0,
        evidences: ['Tom has a boat .'],
      },
    ],
    expected: [
      [
        'explain multirc query: What colour is it ? || Red passage: Tom has a boat . It is red .',
        'True explanation: Tom has a boat . It is red .',
      ],
      ['explain multirc query: Whose is it ? || Mia passage: Tom has a boat .', 'False explanation: Tom has a boat .'],
    ],
  },
  quac: {
    otherColumns: {
      dialogue_id: 'string',
      wikipedia_page_title: 'string',
      section_title: 'string',
      turn_ids: 'list<string>',
      followups: 'list<int64>',
      yesnos: 'list<int64>',
    },
    fullColumns: { answers: 'struct<texts: list<list<string>>, answer_starts: list<list<int32>>>' },
    rows: [
      {
        dialogue_id: 'C_1',
        wikipedia_page_title: 'Ana Vela',
        background: 'Vela was a poet.',
        section_title: 'Life',
        context: 'She was born in Lyra. CANNOTANSWER',
        turn_ids: ['C_1_q#0', 'C_1_q#1'],
        questions: ['Where was she born?', 'When?'],
        followups: [0, 2],
        yesnos: [2, 2],
        answers: { texts: [['in Lyra', 'Lyra'], ['CANNOTANSWER']], answer_starts: [[13, 16], [22]] },
      },
      {
        dialogue_id: 'C_2',
        wikipedia_page_title: 'Orso',
        background: '',
        section_title: 'Games',
        context: 'He played in 1920.',
        turn_ids: ['C_2_q#0'],
        questions: ['When did he play?'],
        followups: [0],
        yesnos: [2],
        answers: { texts: [['1920']], answer_starts: [[13]] },
      },
    ],
    expected: [
      [
        'quac background: Vela was a poet. history: question: Where was she born? context: She was born in Lyra. CANNOTANSWER',
        'in Lyra',
      ],
      [
        'quac background: Vela was a poet. history: question: Where was she born? answer: in Lyra question: When? context: She was born in Lyra. CANNOTANSWER',
        'CANNOTANSWER',
      ],
      ['quac background: history: question: When did he play? context: He played in 1920.', '1920'],
    ],
  },
  coqa: {
    otherColumns: { source: 'string' },
    fullColumns: { answers: 'struct<input_text: list<string>, answer_start: list<int32>, answer_end: list<int32>>' },
    rows: [
      {
        source: 'mctest',
        story: 'The cat slept. It woke at noon.',
        questions: ['Who slept?', 'Until when?'],
        answers: { input_text: ['the cat', 'noon'], answer_start: [0, 15], answer_end: [14, 31] },
      },
      {
        source: 'mctest',
        story: 'Ana rows.',
        questions: ['Who rows?'],
        answers: { input_text: ['Ana'], answer_start: [0], answer_end: [3] },
      },
    ],
    expected: [
      ['coqa story: The cat slept. It woke at noon. history: question: Who slept?', 'the cat'],
      [
        'coqa story: The cat slept. It woke at noon. history: question: Who slept? answer: the cat question: Until when?',
        'noon',
      ],
      ['coqa story: Ana rows. history: question: Who rows?', 'Ana'],
    ],
  },
};
