/** SuperGLUE as T5 trains on it, and the definite pronoun set. WSC asks for the noun that a pronoun refers to. */
import { labelTask, rewrite, rowsWith } from './building-blocks.ts';
import { hubSplits, testOnly } from './declared-splits.ts';
import { hub, type ExmixTask } from './exmix-task.ts';
import { eachAnswer } from './expansions.ts';
import { markedByIndex, markedFirst } from './pronoun-derivations.ts';
import { chosen } from './structure-derivations.ts';
import { joined, withoutHighlights, withoutTags } from './text-derivations.ts';

const note =
  "The paper's abstract names SuperGLUE. The total that we recall, 185,673, is the sum of these nine as T5 weights them.";
const dataset = 'aps/super_glue';
const label = 'int64';

export const SUPER_GLUE_TASKS: readonly ExmixTask[] = [
  {
    name: 'super_glue_boolq',
    family: 'RC',
    citation: 'Clark 2019 (SuperGLUE)',
    numExamples: 9_427,
    source: hub(dataset, 'boolq'),
    columns: { passage: 'string', question: 'string', label },
    rule: labelTask('boolq passage: {passage} question: {question}', ['False', 'True']),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'super_glue_cb',
    family: 'NLI',
    citation: 'De Marneffe 2019 (SuperGLUE)',
    numExamples: 250,
    source: hub(dataset, 'cb'),
    columns: { premise: 'string', hypothesis: 'string', label },
    rule: labelTask('cb hypothesis: {hypothesis} premise: {premise}', ['entailment', 'contradiction', 'neutral']),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['mean_multiclass_f1', 'accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'super_glue_copa',
    family: 'CMNS',
    citation: 'Roemmele 2011 (SuperGLUE)',
    numExamples: 400,
    source: hub(dataset, 'copa'),
    columns: { premise: 'string', choice1: 'string', choice2: 'string', question: 'string', label },
    rule: labelTask('copa choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}', [
      'choice1',
      'choice2',
    ]),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'super_glue_multirc',
    family: 'RC',
    citation: 'Khashabi 2018 (SuperGLUE)',
    numExamples: 27_243,
    source: hub(dataset, 'multirc'),
    columns: { paragraph: 'string', question: 'string', answer: 'string', label },
    rule: labelTask('multirc question: {question} answer: {answer} paragraph: {paragraph}', ['False', 'True'], {
      question: withoutTags('question'),
      answer: withoutTags('answer'),
      paragraph: withoutTags('paragraph'),
    }),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['multirc'], postprocess: 'multirc', fields: { 'idx/question': 'idx.question' } },
    confidence: 'high',
    note,
  },
  {
    name: 'super_glue_record',
    family: 'RC',
    citation: 'Zhang 2018 (SuperGLUE)',
    numExamples: 138_854,
    source: hub(dataset, 'record'),
    columns: { passage: 'string', query: 'string', entities: 'list<string>', answers: 'list<string>' },
    rule: rewrite(
      'record query: {query} entities: {entities} passage: {passage}',
      '{answer}',
      { entities: joined('entities', ', '), passage: withoutHighlights('passage') },
      eachAnswer('answers'),
    ),
    splits: hubSplits(['validation']),
    evaluation: {
      metrics: ['record'],
      postprocess: 'record',
      references: { path: 'answers' },
      fields: { 'idx/passage': 'idx.passage', 'idx/query': 'idx.query' },
    },
    confidence: 'high',
    note: `${note} 100,730 rows give 138,854 examples.`,
  },
  {
    name: 'super_glue_rte',
    family: 'NLI',
    citation: 'Dagan 2005 et al. (SuperGLUE)',
    numExamples: 2_490,
    source: hub(dataset, 'rte'),
    columns: { premise: 'string', hypothesis: 'string', label },
    rule: labelTask('rte hypothesis: {hypothesis} premise: {premise}', ['entailment', 'not_entailment']),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: `${note} It has the same data as glue_rte; T5's all_proportional halves the weight of each copy.`,
  },
  {
    name: 'super_glue_wic',
    family: 'OTHER:word sense',
    citation: 'Pilehvar 2019 (SuperGLUE)',
    numExamples: 5_428,
    source: hub(dataset, 'wic'),
    columns: { word: 'string', sentence1: 'string', sentence2: 'string', label },
    rule: labelTask('wic sentence1: {sentence1} sentence2: {sentence2} word: {word}', ['False', 'True']),
    splits: hubSplits(['validation']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note,
  },
  {
    name: 'super_glue_wsc',
    family: 'OTHER:coreference',
    citation: 'Levesque 2012 (SuperGLUE)',
    numExamples: 259,
    source: hub(dataset, 'wsc.fixed'),
    columns: { text: 'string', span1_text: 'string', span2_text: 'string', span2_index: 'int32', label },
    rule: {
      ...rewrite('wsc: {text}', '{span1_text}', { text: markedByIndex('text', 'span2_text', 'span2_index') }),
      keep: rowsWith('label', '1'),
    },
    splits: { validation: [{ kind: 'split', name: 'validation', keep: 'all' }], test: [], confidence: 'high' },
    evaluation: { metrics: ['accuracy'], postprocess: 'wsc_simple', fields: { label: 'label' } },
    confidence: 'high',
    note: `${note} It has 554 rows; only the true pairs give examples.`,
  },
  {
    name: 'dpr',
    family: 'OTHER:coreference',
    citation: 'Rahman 2012',
    numExamples: 1_322,
    source: hub('community-datasets/definite_pronoun_resolution'),
    columns: { sentence: 'string', pronoun: 'string', candidates: 'list<string>', label },
    rule: rewrite('wsc: {sentence}', '{candidate}', {
      sentence: markedFirst('sentence', 'pronoun'),
      candidate: chosen('candidates', 'label'),
    }),
    splits: testOnly(['test']),
    evaluation: { metrics: ['accuracy'] },
    confidence: 'high',
    note: `${note} T5 counts it with SuperGLUE, as training data of WSC.`,
  },
];
