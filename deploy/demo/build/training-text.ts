/**
 * Duty: the text that the demo's vocabulary is trained on: rendered examples of every task and documents, the same amount of
 * each task whatever its size, so that phonemes and Spanish get their pieces beside English.
 */

import { loadMixture } from '../../../mixture/tasks/load-mixture.ts';
import { readSource } from './describe.ts';
import { shuffled } from './seeded-sampling.ts';

const CHARACTERS_PER_TASK = 300_000;
const CHARACTERS_OF_DENOISING = 1_500_000;

/** @param mixtureFile mixture.yaml @returns lines, inputs and targets of an example one after the other */
export function collectTrainingText(mixtureFile: string): string[] {
  const mixture = loadMixture(mixtureFile);
  const lines: string[] = [];
  for (const { name, source, preprocessor } of mixture.tasks) {
    const examples = shuffled(readSource(source), `vocabulary ${name}`).map((row) => {
      const made = preprocessor.apply(row);
      return made.ok ? made.examples.flatMap(({ inputs, targets }) => [inputs, targets]) : [];
    });
    lines.push(...takeCharacters(examples, CHARACTERS_PER_TASK));
  }
  if (mixture.denoising !== undefined) {
    const documents = readSource(mixture.denoising.source).map(({ text }) => [String(text)]);
    lines.push(...takeCharacters(shuffled(documents, 'vocabulary denoising'), CHARACTERS_OF_DENOISING));
  }
  return lines;
}

function takeCharacters(groups: readonly (readonly string[])[], limit: number): string[] {
  const taken: string[] = [];
  let numCharacters = 0;
  for (const group of groups) {
    numCharacters += group.reduce((sum, line) => sum + line.length, 0);
    if (numCharacters > limit) break;
    taken.push(...group);
  }
  return taken;
}
