/** Made-up rows of the sets of classification.ts. Schemas: the metadata of the sets of those names; trec and the files that a user brings from memory. */
import type { Examples } from './made-up-rows.ts';

const noFlags = { toxic: '0', severe_toxic: '0', obscene: '0', threat: '0', insult: '0', identity_hate: '0' };
const scores = { severe_toxicity: 0, obscene: 0, threat: 0, insult: 0.25, identity_attack: 0, sexual_explicit: 0 };
const scoreColumns = Object.fromEntries(Object.keys(scores).map((name) => [name, 'float32']));

export const CLASSIFICATION_ROWS: Examples = {
  imdb: {
    rows: [
      { text: 'A fine film.<br /><br />See it.', label: 1 },
      { text: 'I left early.', label: 0 },
    ],
    expected: [
      ['imdb: A fine film.<br /><br />See it.', 'pos'],
      ['imdb: I left early.', 'neg'],
    ],
  },
  go_emotions: {
    otherColumns: { id: 'string' },
    rows: [
      { text: 'I love this, thank you!', labels: [18, 15], id: 'a' },
      { text: 'It is a mill.', labels: [27], id: 'b' },
    ],
    expected: [
      ['go_emotions: I love this, thank you!', 'love, gratitude'],
      ['go_emotions: It is a mill.', 'neutral'],
    ],
  },
  civil_comments: {
    otherColumns: scoreColumns,
    rows: [
      { text: 'What a silly plan.', toxicity: 0.5, ...scores },
      { text: 'A sound plan.', toxicity: 0.4375, ...scores },
    ],
    expected: [
      ['civil_comments: What a silly plan.', 'toxic'],
      ['civil_comments: A sound plan.', 'nontoxic'],
    ],
  },
  ukp_argument: {
    otherColumns: { retrievedUrl: 'string', archivedUrl: 'string', sentenceHash: 'string' },
    rows: [
      {
        topic: 'mills',
        sentence: 'Mills "work" well .',
        annotation: 'Argument_for',
        set: 'train',
        retrievedUrl: 'u',
        archivedUrl: 'u',
        sentenceHash: 'a',
      },
      {
        topic: 'mills',
        sentence: 'Mills burn .',
        annotation: 'Argument_against',
        set: 'test',
        retrievedUrl: 'u',
        archivedUrl: 'u',
        sentenceHash: 'b',
      },
      {
        topic: 'mills',
        sentence: 'Mills are mills .',
        annotation: 'NoArgument',
        set: 'train',
        retrievedUrl: 'u',
        archivedUrl: 'u',
        sentenceHash: 'c',
      },
    ],
    expected: [
      ['ukp topic: mills sentence: Mills "work" well .', 'Argument_for'],
      ['ukp topic: mills sentence: Mills are mills .', 'NoArgument'],
    ],
  },
  gpt2_output_detection: {
    rows: [
      { text: 'We walked to the mill.', label: 'human' },
      { text: 'The mill the mill the mill.', label: 'machine' },
    ],
    expected: [
      ['deepfake: We walked to the mill.', 'human'],
      ['deepfake: The mill the mill the mill.', 'machine'],
    ],
  },
  yelp_polarity: {
    rows: [
      { text: 'Cold soup.', label: 0 },
      { text: 'Warm soup!', label: 1 },
    ],
    expected: [
      ['yelp_polarity: Cold soup.', 'negative'],
      ['yelp_polarity: Warm soup!', 'positive'],
    ],
  },
  sentiment140: {
    otherColumns: { date: 'string', user: 'string', query: 'string' },
    rows: [
      { text: '@ana late again :(', date: 'Mon', user: 'leo', sentiment: 0, query: 'NO_QUERY' },
      { text: 'sun at last', date: 'Tue', user: 'mia', sentiment: 4, query: 'NO_QUERY' },
    ],
    expected: [
      ['sentiment140: @ana late again :(', 'negative'],
      ['sentiment140: sun at last', 'positive'],
    ],
  },
  ag_news: {
    rows: [
      { text: 'Rivals sign a treaty', label: 0 },
      { text: 'A phone that folds', label: 3 },
    ],
    expected: [
      ['ag_news: Rivals sign a treaty', 'World'],
      ['ag_news: A phone that folds', 'Sci/Tech'],
    ],
  },
  trec: {
    otherColumns: { fine_label: 'int64' },
    rows: [
      { text: 'Who built the mill ?', coarse_label: 3, fine_label: 20 },
      { text: 'How many oars has a boat ?', coarse_label: 5, fine_label: 39 },
    ],
    expected: [
      ['trec: Who built the mill ?', 'HUM'],
      ['trec: How many oars has a boat ?', 'NUM'],
    ],
  },
  wiki_toxicity: {
    otherColumns: { id: 'string' },
    rows: [
      { id: 'a', comment_text: 'Please cite a source.', ...noFlags },
      { id: 'b', comment_text: 'You fool!', ...noFlags, toxic: '1', insult: '1' },
    ],
    expected: [
      ['wiki_toxicity: Please cite a source.', 'none'],
      ['wiki_toxicity: You fool!', 'toxic, insult'],
    ],
  },
  paws: {
    otherColumns: { id: 'int32' },
    rows: [
      { id: 1, sentence1: 'From Lyra he went to Amra .', sentence2: 'From Amra he went to Lyra .', label: 0 },
      { id: 2, sentence1: 'In May he left .', sentence2: 'He left in May .', label: 1 },
    ],
    expected: [
      ['paws sentence1: From Lyra he went to Amra . sentence2: From Amra he went to Lyra .', 'not_paraphrase'],
      ['paws sentence1: In May he left . sentence2: He left in May .', 'paraphrase'],
    ],
  },
};
