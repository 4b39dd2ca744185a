/** Text → class: the single sets of the family CLS, and PAWS. */
import { labelTask, namedLabel, rewrite, rowsWith } from './building-blocks.ts';
import { givenSplits, hubSplits, testOnly } from './declared-splits.ts';
import { given, hub, type ExmixTask } from './exmix-task.ts';
import { classNames, flagNames, oneOf, threshold, valueName } from './label-derivations.ts';

const recalled = "Probably a row of the paper's appendix, from memory; there is nothing to check it against.";
const representative = "One of the paper's representative classification sets (from memory).";
const listed = 'It is in a public list of partial ExMix sources';

const EMOTIONS = (
  'admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval disgust embarrassment ' +
  'excitement fear gratitude grief joy love nervousness optimism pride realization relief remorse sadness surprise neutral'
).split(' ');
const TOXIC_FLAGS = ['toxic', 'severe_toxic', 'obscene', 'threat', 'insult', 'identity_hate'];
const UKP_LABELS = ['NoArgument', 'Argument_for', 'Argument_against'];

export const CLASSIFICATION_TASKS: readonly ExmixTask[] = [
  {
    name: 'imdb',
    family: 'CLS',
    citation: 'Maas 2011',
    numExamples: 25_000,
    source: hub('stanfordnlp/imdb'),
    columns: { text: 'string', label: 'int64' },
    rule: labelTask('imdb: {text}', ['neg', 'pos']),
    splits: testOnly(['test']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: representative,
  },
  {
    name: 'go_emotions',
    family: 'CLS',
    citation: 'Demszky 2020',
    numExamples: 43_410,
    source: hub('google-research-datasets/go_emotions', 'simplified'),
    columns: { text: 'string', labels: 'list<int64>' },
    rule: rewrite('go_emotions: {text}', '{emotions}', { emotions: classNames('labels', EMOTIONS) }),
    splits: hubSplits(['validation'], ['test']),
    evaluation: { metrics: ['multi_label_f1'], postprocess: 'label_names', labels: EMOTIONS },
    confidence: 'high',
    note: `${representative} 28 names: ${EMOTIONS.join(', ')}.`,
  },
  {
    name: 'civil_comments',
    family: 'CLS',
    citation: 'Borkan 2019',
    numExamples: 1_804_874,
    source: hub('google/civil_comments'),
    columns: { text: 'string', toxicity: 'float32' },
    rule: namedLabel('civil_comments: {text}', ['toxic', 'nontoxic'], threshold('toxicity', 0.5, 'toxic', 'nontoxic')),
    splits: hubSplits(['validation'], ['test']),
    evaluation: { metrics: ['f1_score_with_invalid', 'accuracy'], labels: ['nontoxic', 'toxic'] },
    confidence: 'high',
    note: representative,
  },
  {
    name: 'ukp_argument',
    family: 'CLS',
    citation: 'Stab 2018 (UKP sentential argument mining)',
    numExamples: 18_341,
    source: given(
      'tsv',
      'The topic files of tudatalib/2345, which have header lines. Join them, or list all of them in source.path. Quotes are ordinary characters.',
    ),
    columns: { topic: 'string', sentence: 'string', annotation: 'string', set: 'string' },
    rule: {
      ...namedLabel('ukp topic: {topic} sentence: {sentence}', UKP_LABELS, oneOf('annotation', UKP_LABELS)),
      keep: rowsWith('set', 'train'),
    },
    splits: {
      validation: [{ kind: 'rows', name: 'validation', keep: rowsWith('set', 'val') }],
      test: [{ kind: 'rows', name: 'test', keep: rowsWith('set', 'test') }],
      confidence: 'low',
    },
    evaluation: { metrics: ['macro_f1'] },
    confidence: 'high',
    note: `${listed}; the size is from memory.`,
  },
  {
    name: 'gpt2_output_detection',
    family: 'CLS',
    citation: 'Radford 2019 / Solaiman 2019',
    numExamples: 500_000,
    source: given(
      'jsonl',
      'webtext.train.jsonl and the file of one model of openai/gpt-2-output-dataset, with a field label added: ' +
        `(jq -c '{text, label: "human"}' webtext.train.jsonl; jq -c '{text, label: "machine"}' small-117M.train.jsonl).`,
    ),
    columns: { text: 'string', label: 'string' },
    rule: namedLabel('deepfake: {text}', ['human', 'machine'], oneOf('label', ['human', 'machine'])),
    splits: givenSplits('high', {
      validation: 'webtext.valid.jsonl and small-117M.valid.jsonl, with the field label, as the train file.',
      test: 'webtext.test.jsonl and small-117M.test.jsonl, with the field label, as the train file.',
    }),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: `${listed}; the size, 500,000 (250,000 of each class), is from memory. We do not know which model wrote the second half.`,
  },
  {
    name: 'yelp_polarity',
    family: 'CLS',
    citation: 'Zhang 2015',
    numExamples: 560_000,
    source: hub('fancyzhx/yelp_polarity'),
    columns: { text: 'string', label: 'int64' },
    rule: labelTask('yelp_polarity: {text}', ['negative', 'positive']),
    splits: testOnly(['test']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'low',
    note: `${recalled} The hub calls the classes 1 and 2.`,
  },
  {
    name: 'sentiment140',
    family: 'CLS',
    citation: 'Go 2009',
    numExamples: 1_600_000,
    source: hub('stanfordnlp/sentiment140'),
    columns: { text: 'string', sentiment: 'int32' },
    rule: namedLabel(
      'sentiment140: {text}',
      ['negative', 'positive'],
      valueName('sentiment', { 0: 'negative', 4: 'positive' }),
    ),
    splits: testOnly(['test']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'low',
    note: `${recalled} The test split also has neutral rows (2); they are counted as malformed.`,
  },
  {
    name: 'ag_news',
    family: 'CLS',
    citation: 'Zhang 2015',
    numExamples: 120_000,
    source: hub('fancyzhx/ag_news'),
    columns: { text: 'string', label: 'int64' },
    rule: labelTask('ag_news: {text}', ['World', 'Sports', 'Business', 'Sci/Tech']),
    splits: testOnly(['test']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'low',
    note: recalled,
  },
  {
    name: 'trec',
    family: 'CLS',
    citation: 'Li 2002',
    numExamples: 5_452,
    source: hub('CogComp/trec'),
    columns: { text: 'string', coarse_label: 'int64' },
    rule: labelTask('trec: {text}', ['ABBR', 'ENTY', 'DESC', 'HUM', 'LOC', 'NUM'], {}, 'coarse_label'),
    splits: testOnly(['test']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'low',
    note: `${recalled} We also recall a size of 4,907 (90 % of 5,452). The column name and the order of the classes are those of the hub's present version, from memory.`,
  },
  {
    name: 'wiki_toxicity',
    family: 'CLS',
    citation: 'Wulczyn 2017',
    numExamples: 159_571,
    source: given(
      'csv',
      'train.csv of the Kaggle contest jigsaw-toxic-comment-classification-challenge (google/jigsaw_toxicity_pred on the hub holds a script, no data).',
      { quotes: true },
    ),
    columns: { comment_text: 'string', ...Object.fromEntries(TOXIC_FLAGS.map((flag) => [flag, 'string'])) },
    rule: rewrite('wiki_toxicity: {comment_text}', '{flags}', { flags: flagNames(TOXIC_FLAGS, 'none') }),
    splits: givenSplits('low', {
      test: 'test.csv of the contest joined with test_labels.csv on id, without the rows whose labels are -1.',
    }),
    evaluation: { metrics: ['multi_label_f1'], postprocess: 'label_names', labels: TOXIC_FLAGS },
    confidence: 'low',
    note: recalled,
  },
  {
    name: 'paws',
    family: 'OTHER:paraphrase',
    citation: 'Zhang 2019',
    numExamples: 49_401,
    source: hub('google-research-datasets/paws', 'labeled_final'),
    columns: { sentence1: 'string', sentence2: 'string', label: 'int64' },
    rule: labelTask('paws sentence1: {sentence1} sentence2: {sentence2}', ['not_paraphrase', 'paraphrase']),
    splits: hubSplits(['validation'], ['test']),
    evaluation: { metrics: ['accuracy', 'f1_score_with_invalid'] },
    confidence: 'low',
    note: 'A filler: a plausible set, chosen so that the count is 107.',
  },
];
