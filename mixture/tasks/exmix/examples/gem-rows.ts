/** Made-up rows of GEM. Schemas: the metadata of gem. */
import type { Examples } from './made-up-rows.ts';

const ids = { gem_id: 'string', gem_parent_id: 'string', references: 'list<string>' };
const id = (n: number) => ({ gem_id: `made-up-train-${n}`, gem_parent_id: `made-up-train-${n}`, references: [] });
const cell = (value: string) => ({ column_span: 1, is_header: false, row_span: 1, value });

export const GEM_ROWS: Examples = {
  gem_common_gen: {
    otherColumns: { ...ids, concept_set_id: 'int32' },
    rows: [
      { ...id(0), concept_set_id: 0, concepts: ['boat', 'row', 'lake'], target: 'She rows a boat on the lake.' },
      { ...id(1), concept_set_id: 1, concepts: ['bake', 'bread'], target: 'They bake bread.' },
    ],
    expected: [
      ['common_gen concepts: boat row lake', 'She rows a boat on the lake.'],
      ['common_gen concepts: bake bread', 'They bake bread.'],
    ],
  },
  gem_dart: {
    otherColumns: { ...ids, dart_id: 'int32', subtree_was_extended: 'bool', target_sources: 'list<string>' },
    rows: [
      {
        ...id(0),
        dart_id: 0,
        tripleset: [
          ['Mill', 'BUILT', '1820'],
          ['Mill', 'OWNER', 'Vela'],
        ],
        subtree_was_extended: false,
        target_sources: ['made up'],
        target: 'The mill of 1820 belongs to Vela.',
      },
      {
        ...id(1),
        dart_id: 1,
        tripleset: [['Inn', 'FOOD', 'soup']],
        subtree_was_extended: true,
        target_sources: [],
        target: 'The inn has soup.',
      },
    ],
    expected: [
      ['dart triples: Mill | BUILT | 1820 && Mill | OWNER | Vela', 'The mill of 1820 belongs to Vela.'],
      ['dart triples: Inn | FOOD | soup', 'The inn has soup.'],
    ],
  },
  gem_e2e_nlg: {
    otherColumns: ids,
    rows: [
      { ...id(0), meaning_representation: 'name[The Mill], food[soup]', target: 'The Mill serves soup.' },
      { ...id(1), meaning_representation: 'name[The Oar], area[riverside]', target: 'The Oar is by the river.' },
    ],
    expected: [
      ['e2e_nlg meaning: name[The Mill], food[soup]', 'The Mill serves soup.'],
      ['e2e_nlg meaning: name[The Oar], area[riverside]', 'The Oar is by the river.'],
    ],
  },
  gem_schema_guided_dialog: {
    otherColumns: { ...ids, dialog_id: 'string', service: 'string', turn_id: 'int32' },
    rows: [
      {
        ...id(0),
        dialog_acts: [
          { act: 4, slot: 'time', values: ['7 pm', '8 pm'] },
          { act: 13, slot: 'date', values: [] },
        ],
        context: ['Book a table.', 'For when?'],
        dialog_id: '1_0',
        service: 'Restaurants_1',
        turn_id: 2,
        prompt: 'Tonight.',
        target: 'There is 7 pm or 8 pm. Which date?',
      },
      {
        ...id(1),
        dialog_acts: [{ act: 3, slot: '', values: [] }],
        context: [],
        dialog_id: '1_1',
        service: 'Restaurants_1',
        turn_id: 9,
        prompt: 'Bye.',
        target: 'Goodbye!',
      },
    ],
    expected: [
      [
        'sgd acts: INFORM(time=7 pm, 8 pm) REQUEST(date) prompt: Tonight. context: Book a table. For when?',
        'There is 7 pm or 8 pm. Which date?',
      ],
      ['sgd acts: GOODBYE() prompt: Bye. context:', 'Goodbye!'],
    ],
  },
  gem_totto: {
    otherColumns: {
      ...ids,
      totto_id: 'int32',
      table_webpage_url: 'string',
      table_section_text: 'string',
      example_id: 'string',
      overlap_subset: 'string',
    },
    fullColumns: { table: 'list<list<struct<column_span: int32, is_header: bool, row_span: int32, value: string>>>' },
    rows: [
      {
        ...id(0),
        totto_id: 0,
        table_page_title: 'Ana Vela',
        table_webpage_url: 'http://example.org',
        table_section_title: 'Races',
        table_section_text: '',
        table: [
          [cell('Year'), cell('Place')],
          [cell('1920'), cell('1st')],
        ],
        highlighted_cells: [
          [1, 0],
          [1, 1],
        ],
        example_id: '0',
        overlap_subset: 'none',
        target: 'Ana Vela was first in 1920.',
      },
      {
        ...id(1),
        totto_id: 1,
        table_page_title: 'Mills',
        table_webpage_url: 'http://example.org',
        table_section_title: 'List',
        table_section_text: '',
        table: [[cell('Old mill')]],
        highlighted_cells: [[0, 0]],
        example_id: '1',
        overlap_subset: 'none',
        target: 'There is an old mill.',
      },
    ],
    expected: [
      ['totto table: Ana Vela Races 1920 | 1st', 'Ana Vela was first in 1920.'],
      ['totto table: Mills List Old mill', 'There is an old mill.'],
    ],
  },
  gem_web_nlg_en: {
    otherColumns: { ...ids, category: 'string', webnlg_id: 'string' },
    rows: [
      {
        ...id(0),
        input: ['Mill | location | Lyra', 'Mill | year | 1820'],
        target: 'The mill in Lyra is of 1820.',
        category: 'Building',
        webnlg_id: 'a',
      },
      { ...id(1), input: ['Vela | job | poet'], target: 'Vela is a poet.', category: 'Person', webnlg_id: 'b' },
    ],
    expected: [
      ['web_nlg triples: Mill | location | Lyra, Mill | year | 1820', 'The mill in Lyra is of 1820.'],
      ['web_nlg triples: Vela | job | poet', 'Vela is a poet.'],
    ],
  },
  gem_wiki_auto_asset_turk: {
    otherColumns: ids,
    rows: [
      { ...id(0), source: 'The edifice was erected in 1820.', target: 'The house was built in 1820.' },
      { ...id(1), source: 'He imbibed water.', target: 'He drank water.' },
    ],
    expected: [
      ['simplify: The edifice was erected in 1820.', 'The house was built in 1820.'],
      ['simplify: He imbibed water.', 'He drank water.'],
    ],
  },
  gem_wiki_lingua_en: {
    otherColumns: { ...ids, source_aligned: 'struct<en: string>', target_aligned: 'struct<en: string>' },
    rows: [
      {
        ...id(0),
        source_aligned: { en: 'Peel it.' },
        target_aligned: { en: 'Peel.' },
        source: 'Take an onion.\nPeel it.',
        target: 'Peel an onion.',
      },
      {
        ...id(1),
        source_aligned: { en: 'Boil.' },
        target_aligned: { en: 'Boil.' },
        source: 'Boil the water first.',
        target: 'Boil water.',
      },
    ],
    expected: [
      ['summarize wiki_lingua: Take an onion. Peel it.', 'Peel an onion.'],
      ['summarize wiki_lingua: Boil the water first.', 'Boil water.'],
    ],
  },
};
