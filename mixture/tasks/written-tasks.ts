/** Entries of a mixture file that are written out in it: tasks with templates, the denoising text. */
import { toTrainerError } from '../../shared/errors.ts';
import { C4 } from './exmix/c4.ts';
import { hintOf, type Problem } from './mixture-problems.ts';
import type { DenoisingEntry, WrittenTask } from './mixture-schema.ts';
import { buildSource } from './source-entry.ts';
import { TEXT_FIELD, type Denoising, type SourceSpec, type Task } from './task.ts';
import { createTemplatePreprocessor } from './template-preprocessor.ts';
import { missingField, parseTemplate } from './template.ts';

/** A task of the file itself: two templates over a source. Undefined where something is wrong with it, told in `problems`. */
export function buildWrittenTask(
  entry: WrittenTask,
  path: readonly PropertyKey[],
  folder: string,
  problems: Problem[],
): Task | undefined {
  const source = buildSource(entry.source, folder);
  const found = (['inputs', 'targets'] as const).flatMap((key) => templateProblems(entry[key], source, [...path, key]));
  if (entry.labels !== undefined && new Set(entry.labels).size < entry.labels.length)
    found.push({ path: [...path, 'labels'], message: 'a label comes twice' });
  problems.push(...found);
  if (found.length > 0) return undefined;
  const { inputs, targets, labels } = entry;
  const preprocessor = createTemplatePreprocessor({ inputs, targets, ...(labels === undefined ? {} : { labels }) });
  return { name: entry.name, family: entry.family, source, preprocessor, metrics: entry.metrics ?? [] };
}

/** The denoising text: C4 by name, or text of the file itself. */
export function buildDenoising(entry: DenoisingEntry, folder: string, problems: Problem[]): Denoising | undefined {
  if ('use' in entry) {
    if (entry.use !== C4.name) {
      problems.push({
        path: ['denoising', 'use'],
        message: `ExMix has no denoising text "${entry.use}"; ${hintOf(entry.use, [C4.name])}`,
      });
      return undefined;
    }
    return entry.source === undefined ? C4 : { ...C4, source: buildSource(entry.source, folder) };
  }
  const source = buildSource(entry.source, folder);
  const text = entry.text ?? `{${TEXT_FIELD}}`;
  problems.push(...templateProblems(text, source, ['denoising', 'text']));
  return { name: entry.name, source, text };
}

function templateProblems(template: string, source: SourceSpec, path: readonly PropertyKey[]): Problem[] {
  try {
    const { fields } = parseTemplate(template);
    if (source.format !== 'text') return [];
    return fields
      .filter((name) => name !== TEXT_FIELD)
      .map((name) => ({ path, message: missingField(name, [TEXT_FIELD]) }));
  } catch (error) {
    return [{ path, message: toTrainerError(error).message }];
  }
}
