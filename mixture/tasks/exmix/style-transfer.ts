/** Shakespeare ↔ modern English, and StylePTB with one task for each of its 21 style codes. */
import { rewrite } from './building-blocks.ts';
import { givenSplits } from './declared-splits.ts';
import { given, type ExmixTask } from './exmix-task.ts';

const shakespeare = given(
  'tsv',
  'train.modern.nltok and train.original.nltok of harsh19/Shakespearizing-Modern-English as two columns, with a header line: ' +
    '(printf "modern\\toriginal\\n"; paste train.modern.nltok train.original.nltok).',
);
const shakespeareSplits = givenSplits('low', {
  validation: 'valid.modern.nltok and valid.original.nltok, made into two columns as the train file.',
  test: 'test.modern.nltok and test.original.nltok, made into two columns as the train file.',
});
const shakespeareColumns = { modern: 'string', original: 'string' };
const shakespeareNote =
  'It is in a public list of partial ExMix sources. The total that we recall, 36,790, is twice the 18,395 pairs, hence two directions.';

const SHAKESPEARE_TASKS: readonly ExmixTask[] = [
  {
    name: 'shakespeare_modern_to_shakespeare',
    family: 'OTHER:style transfer',
    citation: 'Jhamtani 2017',
    numExamples: 18_395,
    source: shakespeare,
    columns: shakespeareColumns,
    rule: rewrite('modern to shakespeare: {modern}', '{original}'),
    splits: shakespeareSplits,
    evaluation: { metrics: ['bleu'] },
    confidence: 'high',
    note: shakespeareNote,
  },
  {
    name: 'shakespeare_shakespeare_to_modern',
    family: 'OTHER:style transfer',
    citation: 'Jhamtani 2017',
    numExamples: 18_395,
    source: shakespeare,
    columns: shakespeareColumns,
    rule: rewrite('shakespeare to modern: {original}', '{modern}'),
    splits: shakespeareSplits,
    evaluation: { metrics: ['bleu'] },
    confidence: 'high',
    note: shakespeareNote,
  },
];

/** Style code → the change of style. */
const STYLES: readonly (readonly [code: string, style: string])[] = [
  ['tfu', 'to future tense'],
  ['tpa', 'to past tense'],
  ['tpr', 'to present tense'],
  ['atp', 'active to passive'],
  ['pta', 'passive to active'],
  ['pfb', 'prepositional phrase front to back'],
  ['pbf', 'prepositional phrase back to front'],
  ['iad', 'information addition'],
  ['arr', 'adjective and adverb removal'],
  ['sbr', 'substatement removal'],
  ['ppr', 'prepositional phrase removal'],
  ['aem', 'adjective emphasis'],
  ['vem', 'verb emphasis'],
  ['nsr', 'noun synonym replacement'],
  ['asr', 'adjective synonym replacement'],
  ['vsr', 'verb synonym replacement'],
  ['nar', 'noun antonym replacement'],
  ['aar', 'adjective antonym replacement'],
  ['var', 'verb antonym replacement'],
  ['lfs', 'least frequent synonym replacement'],
  ['mfs', 'most frequent synonym replacement'],
];

/** The source sentence of these styles also holds the text to add or to stress. */
const WITH_EXTRA_INFORMATION = ['iad', 'aem', 'vem'];
/** All styles together, from memory: 90 % of about 59,500 pairs. */
export const STYLEPTB_EXAMPLES = 53_546;
const styleNote =
  'StylePTB is in a public list of partial ExMix sources. We infer that each style code is a task, because the count is then 107. ' +
  'Only the total of all styles is known (53,546); the size here is an equal share of it.';

const STYLEPTB_TASKS: readonly ExmixTask[] = STYLES.map(([code, style], i) => ({
  name: `styleptb_${code}`,
  family: 'OTHER:style transfer',
  citation: 'Lyu 2021 (StylePTB)',
  // Equal shares that add up: the first few tasks have one more.
  numExamples: Math.floor(STYLEPTB_EXAMPLES / STYLES.length) + (i < STYLEPTB_EXAMPLES % STYLES.length ? 1 : 0),
  isSizeEstimated: true,
  source: given(
    'tsv',
    `train.tsv of style ${code.toUpperCase()} of lvyiwei1/StylePTB with a header line: (printf "source\\ttarget\\n"; cat train.tsv).`,
  ),
  columns: { source: 'string', target: 'string' },
  rule: rewrite(`styleptb ${style}: {source}`, '{target}'),
  splits: givenSplits('low', {
    validation: `valid.tsv of style ${code.toUpperCase()} of lvyiwei1/StylePTB, with the header line of the train file.`,
    test: `test.tsv of style ${code.toUpperCase()} of lvyiwei1/StylePTB, with the header line of the train file.`,
  }),
  evaluation: { metrics: ['caption', 'meteor'] },
  confidence: 'low',
  note: WITH_EXTRA_INFORMATION.includes(code)
    ? `${styleNote} The source also holds the text to add or to stress.`
    : styleNote,
}));

export const STYLE_TRANSFER_TASKS: readonly ExmixTask[] = [...SHAKESPEARE_TASKS, ...STYLEPTB_TASKS];
