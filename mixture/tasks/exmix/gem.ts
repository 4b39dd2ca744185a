/** GEM in English without XSum: text from concepts, triples, tables, dialogue acts and longer text. */
import { rewrite, summarize } from './building-blocks.ts';
import { hubSplits } from './declared-splits.ts';
import { hub, type ExmixTask } from './exmix-task.ts';
import { dialogueActs, highlightedCells, triples } from './structure-derivations.ts';
import { joined } from './text-derivations.ts';

const note =
  "The paper's abstract names GEM. The total that we recall of GEM in English, 1,067,955, is the sum of these eight.";
const dataset = 'GEM/gem';
const generation: ExmixTask['evaluation'] = {
  metrics: ['meteor', 'gem_bleu', 'gem_rouge'],
  references: { path: 'references' },
};

/** Class names of `dialog_acts[].act`, in the order of the set. */
const DIALOGUE_ACTS = (
  'AFFIRM AFFIRM_INTENT CONFIRM GOODBYE INFORM INFORM_COUNT INFORM_INTENT NEGATE NEGATE_INTENT ' +
  'NOTIFY_FAILURE NOTIFY_SUCCESS OFFER OFFER_INTENT REQUEST REQUEST_ALTS REQ_MORE SELECT THANK_YOU'
).split(' ');

export const GEM_TASKS: readonly ExmixTask[] = [
  {
    name: 'gem_common_gen',
    family: 'OTHER:generation',
    citation: 'Lin 2020 / Gehrmann 2021 (GEM)',
    numExamples: 67_389,
    source: hub(dataset, 'common_gen'),
    columns: { concepts: 'list<string>', target: 'string' },
    rule: rewrite('common_gen concepts: {concepts}', '{target}', { concepts: joined('concepts', ' ') }),
    splits: hubSplits(['validation']),
    evaluation: generation,
    confidence: 'high',
    note,
  },
  {
    name: 'gem_dart',
    family: 'OTHER:data-to-text',
    citation: 'Nan 2021 / Gehrmann 2021 (GEM)',
    numExamples: 62_659,
    source: hub(dataset, 'dart'),
    columns: { tripleset: 'list<list<string>>', target: 'string' },
    rule: rewrite('dart triples: {tripleset}', '{target}', { tripleset: triples('tripleset') }),
    splits: hubSplits(['validation'], ['test']),
    evaluation: generation,
    confidence: 'high',
    note,
  },
  {
    name: 'gem_e2e_nlg',
    family: 'OTHER:data-to-text',
    citation: 'Novikova 2017 / Dusek 2019 / Gehrmann 2021 (GEM)',
    numExamples: 33_525,
    source: hub(dataset, 'e2e_nlg'),
    columns: { meaning_representation: 'string', target: 'string' },
    rule: rewrite('e2e_nlg meaning: {meaning_representation}', '{target}'),
    splits: hubSplits(['validation'], ['test']),
    evaluation: generation,
    confidence: 'high',
    note,
  },
  {
    name: 'gem_schema_guided_dialog',
    family: 'DLG',
    citation: 'Rastogi 2020 / Gehrmann 2021 (GEM)',
    numExamples: 164_982,
    source: hub(dataset, 'schema_guided_dialog'),
    columns: {
      dialog_acts: 'list<struct<act: int64, slot: string, values: list<string>>>',
      context: 'list<string>',
      prompt: 'string',
      target: 'string',
    },
    rule: rewrite('sgd acts: {acts} prompt: {prompt} context: {context}', '{target}', {
      acts: dialogueActs('dialog_acts', DIALOGUE_ACTS),
      context: joined('context', ' '),
    }),
    splits: hubSplits(['validation'], ['test']),
    evaluation: generation,
    confidence: 'high',
    note: `${note} One of the paper's representative dialogue sets (from memory).`,
  },
  {
    name: 'gem_totto',
    family: 'OTHER:data-to-text',
    citation: 'Parikh 2020 / Gehrmann 2021 (GEM)',
    numExamples: 121_153,
    source: hub(dataset, 'totto'),
    columns: {
      table_page_title: 'string',
      table_section_title: 'string',
      table: 'list<list<struct<value: string>>>',
      highlighted_cells: 'list<list<int32>>',
      target: 'string',
    },
    rule: rewrite('totto table: {table_page_title} {table_section_title} {cells}', '{target}', {
      cells: highlightedCells('table', 'highlighted_cells'),
    }),
    splits: hubSplits(['validation']),
    evaluation: generation,
    confidence: 'high',
    note,
  },
  {
    name: 'gem_web_nlg_en',
    family: 'OTHER:data-to-text',
    citation: 'Gardent 2017 / Gehrmann 2021 (GEM)',
    numExamples: 35_426,
    source: hub(dataset, 'web_nlg_en'),
    columns: { input: 'list<string>', target: 'string' },
    rule: rewrite('web_nlg triples: {input}', '{target}', { input: joined('input', ', ') }),
    splits: hubSplits(['validation'], ['test']),
    evaluation: generation,
    confidence: 'high',
    note,
  },
  {
    name: 'gem_wiki_auto_asset_turk',
    family: 'OTHER:simplification',
    citation: 'Jiang 2020 / Xu 2016 / Alva-Manchego 2020 / Gehrmann 2021 (GEM)',
    numExamples: 483_801,
    source: hub(dataset, 'wiki_auto_asset_turk'),
    columns: { source: 'string', target: 'string' },
    rule: rewrite('simplify: {source}', '{target}'),
    splits: hubSplits(['validation'], ['test_asset', 'test_turk']),
    evaluation: {
      metrics: ['sari', 'gem_bleu'],
      postprocess: 'simplification',
      references: { path: 'references' },
      fields: { source: 'source' },
    },
    confidence: 'high',
    note,
  },
  {
    name: 'gem_wiki_lingua_en',
    family: 'SUM',
    citation: 'Ladhak 2020 / Gehrmann 2021 (GEM)',
    numExamples: 99_020,
    source: hub(dataset, 'wiki_lingua_english_en'),
    columns: { source: 'string', target: 'string' },
    rule: summarize('summarize wiki_lingua:', 'source', 'target'),
    splits: hubSplits(['validation'], ['test']),
    evaluation: { metrics: ['gem_rouge'], references: { path: 'references' } },
    confidence: 'high',
    note: `${note} One of the paper's representative summarization sets (from memory).`,
  },
];
