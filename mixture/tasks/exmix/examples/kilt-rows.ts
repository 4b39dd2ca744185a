/** Made-up rows of KILT. Schema: the metadata of kilt_tasks, one for all its sets (the long `meta` of a row is shortened here). */
import type { Examples, MadeUpRows } from './made-up-rows.ts';

const shape = {
  otherColumns: { id: 'string', meta: 'struct<mention: string?, sub_surface: list<string>>' },
  fullColumns: {
    output:
      'list<struct<answer: string?, meta: struct<score: int32?>, provenance: list<struct<start_paragraph_id: int32, title: string, wikipedia_id: string>>>>',
  },
};
const meta = { mention: '', sub_surface: [] };
const provenance = [{ start_paragraph_id: 1, title: 'A page', wikipedia_id: '7' }];
const output = (...answers: string[]) => answers.map((answer) => ({ answer, meta: { score: 0 }, provenance }));

/** Rows of [input, answers…]; the expected input has the prefix. */
function rows(prefix: string, ...pairs: readonly (readonly [input: string, ...answers: string[]])[]): MadeUpRows {
  return {
    ...shape,
    rows: pairs.map(([input, ...answers], i) => ({ id: String(i), input, meta, output: output(...answers) })),
    expected: pairs.map(([input, ...answers]) => [`${prefix} ${input}`, answers.find((answer) => answer !== '')!]),
  };
}

export const KILT_ROWS: Examples = {
  kilt_fever: rows(
    'kilt_fever claim:',
    ['Mount Ona is a volcano.', 'SUPPORTS'],
    ['Mount Ona is in Peru.', '', 'REFUTES'],
  ),
  kilt_aidayago2: rows(
    'kilt_ay2:',
    ['The match in [START_ENT] Lyra [END_ENT] ended 2-1 .', 'Lyra, Greece'],
    ['[START_ENT] Orso [END_ENT] scored .', 'Orso (footballer)'],
  ),
  kilt_trex: rows(
    'kilt_trex:',
    ['Mount Ona [SEP] located in', 'Iceland', 'Republic of Iceland'],
    ['Vela [SEP] occupation', 'poet'],
  ),
  kilt_zsre: rows('kilt_zsre:', ['Vela [SEP] date of birth', '1901'], ['The Mill [SEP] material', 'oak', 'stone']),
  kilt_nq: rows('kilt_nq question:', ['who built the old mill', 'Ana Vela'], ['where is mount ona', 'Iceland']),
  kilt_hotpotqa: rows(
    'kilt_hotpotqa question:',
    ['Which is older, the mill or the inn?', 'the mill'],
    ['Who wrote of both?', 'Orso'],
  ),
  kilt_triviaqa: rows(
    'kilt_triviaqa question:',
    ['Which bird sleeps on the wing?', 'Swift', 'The swift'],
    ['Capital of Lyra?', 'Amra'],
  ),
  kilt_eli5: rows(
    'kilt_eli5 question:',
    ['Why is the sky blue?', 'Blue light is scattered more by air.'],
    ['Why does ice float?', 'It is less dense than water.'],
  ),
  kilt_wow: rows(
    'kilt_wow context:',
    ['Do you like boats?', 'Yes, sailing is an old sport.'],
    ['Tell me of mills.', 'Mills grind corn.'],
  ),
};
