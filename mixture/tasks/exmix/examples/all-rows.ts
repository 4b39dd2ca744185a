/** The made-up rows of every task, by name. */
import { C4 } from '../c4.ts';
import { C4_ROWS } from './c4-rows.ts';
import { CLASSIFICATION_ROWS } from './classification-rows.ts';
import { DIALOGUE_ROWS } from './dialogue-rows.ts';
import { GEM_ROWS } from './gem-rows.ts';
import { GLUE_ROWS } from './glue-rows.ts';
import { KILT_ROWS } from './kilt-rows.ts';
import type { Examples, MadeUpRows } from './made-up-rows.ts';
import { INFERENCE_ROWS } from './natural-language-inference-rows.ts';
import { QUESTION_ANSWERING_ROWS } from './question-answering-rows.ts';
import { RAINBOW_ROWS } from './rainbow-rows.ts';
import { SEMANTIC_PARSING_ROWS } from './semantic-parsing-rows.ts';
import { STYLE_TRANSFER_ROWS } from './style-transfer-rows.ts';
import { SUMMARIZATION_ROWS } from './summarization-rows.ts';
import { SUPER_GLUE_ROWS } from './super-glue-rows.ts';

const ROWS: Examples = {
  ...GLUE_ROWS,
  ...SUPER_GLUE_ROWS,
  ...KILT_ROWS,
  ...RAINBOW_ROWS,
  ...GEM_ROWS,
  ...DIALOGUE_ROWS,
  ...SEMANTIC_PARSING_ROWS,
  ...STYLE_TRANSFER_ROWS,
  ...INFERENCE_ROWS,
  ...SUMMARIZATION_ROWS,
  ...CLASSIFICATION_ROWS,
  ...QUESTION_ANSWERING_ROWS,
  [C4.name]: C4_ROWS,
};

export const ROW_NAMES: readonly string[] = Object.keys(ROWS);

/** Undefined for a task that is not ExMix's. */
export function madeUpRows(task: string): MadeUpRows | undefined {
  return Object.hasOwn(ROWS, task) ? ROWS[task] : undefined;
}
