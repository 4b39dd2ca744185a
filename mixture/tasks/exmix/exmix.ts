/**
 * ExMix (Aribandi et al., ICLR 2022): 107 supervised tasks and the denoising text C4 `en`, as one table.
 *
 * Assumption: the choice of the 107 is a reconstruction, because we could not read the paper's table completely. Each
 * row says how sure we are (`confidence`, `note`).
 */
import { CLASSIFICATION_TASKS } from './classification.ts';
import { C4, C4_FACTS } from './c4.ts';
import { DIALOGUE_TASKS } from './dialogue.ts';
import type { ExmixTask } from './exmix-task.ts';
import { GEM_TASKS } from './gem.ts';
import { GLUE_TASKS } from './glue.ts';
import { KILT_TASKS } from './kilt.ts';
import { INFERENCE_TASKS } from './natural-language-inference.ts';
import { QUESTION_ANSWERING_TASKS } from './question-answering.ts';
import { RAINBOW_TASKS } from './rainbow.ts';
import { SEMANTIC_PARSING_TASKS } from './semantic-parsing.ts';
import { STYLE_TRANSFER_TASKS } from './style-transfer.ts';
import { SUMMARIZATION_TASKS } from './summarization.ts';
import { SUPER_GLUE_TASKS } from './super-glue.ts';

/**
 * The table in groups. Each group is a file of this folder; examples/ has a YAML file of the same name with made-up
 * rows of its tasks.
 */
export const TASK_GROUPS: Readonly<Record<string, readonly ExmixTask[]>> = {
  glue: GLUE_TASKS,
  'super-glue': SUPER_GLUE_TASKS,
  kilt: KILT_TASKS,
  rainbow: RAINBOW_TASKS,
  gem: GEM_TASKS,
  dialogue: DIALOGUE_TASKS,
  'semantic-parsing': SEMANTIC_PARSING_TASKS,
  'style-transfer': STYLE_TRANSFER_TASKS,
  'natural-language-inference': INFERENCE_TASKS,
  summarization: SUMMARIZATION_TASKS,
  classification: CLASSIFICATION_TASKS,
  'question-answering': QUESTION_ANSWERING_TASKS,
};

export const EXMIX_TASKS: readonly ExmixTask[] = Object.values(TASK_GROUPS).flat();

/** All names of the table, C4 last. */
export const EXMIX_NAMES: readonly string[] = [...EXMIX_TASKS.map(({ name }) => name), C4.name];

/** Sizes for `computeRates`. C4 counts documents, which is enough: its share depends on R alone. */
export function exmixSizes(): {
  readonly name: string;
  readonly kind: 'supervised' | 'denoising';
  readonly numExamples: number;
}[] {
  return [
    ...EXMIX_TASKS.map(({ name, numExamples }) => ({ name, kind: 'supervised' as const, numExamples })),
    { name: C4.name, kind: 'denoising' as const, numExamples: C4_FACTS.numDocuments },
  ];
}
