/**
 * Duty: the training text of the demo's vocabulary: rendered examples of every task, and documents. Every task gives
 * the same amount of text whatever its size, so that phonemes and Spanish get pieces as English does.
 */

import { loadMixture } from '../../../mixture/tasks/load-mixture.ts';
import { readSource } from './describe.ts';
import { shuffled } from './seeded-sampling.ts';

const CHARACTERS_PER_TASK = 300_000;
const CHARACTERS_OF_DENOISING = 1_500_000;

/** @param mixtureFile mixture.yaml @returns lines; the inputs of an example come just before its targets */
export function collectTrainingText(mixtureFile: string): string[] {
  const mixture = loadMixture(mixtureFile);
  const lines: string[] = [];
  for (const { name, source, preprocessor } of mixture.tasks) {
    const examples = shuffled(readSource(source), `vocabulary ${name}`).map((row) => {
      const made = preprocessor.apply(row);
      return made.ok ? made.examples.flatMap(({ inputs, targets }) => [inputs, targets]) : [];
    });
    lines.push(...sampleCharacters(examples, CHARACTERS_PER_TASK));
  }
  if (mixture.denoising !== undefined) {
    const documents = readSource(mixture.denoising.source).map(({ text }) => [String(text)]);
    lines.push(...sampleCharacters(shuffled(documents, 'vocabulary denoising'), CHARACTERS_OF_DENOISING));
  }
  return lines;
}

function sampleCharacters(groups: readonly (readonly string[])[], limit: number): string[] {
  const lines: string[] = [];
  let numCharacters = 0;
  for (const group of groups) {
    numCharacters += group.reduce((sum, line) => sum + line.length, 0);
    if (numCharacters > limit) break;
    lines.push(...group);
  }
  return lines;
}
