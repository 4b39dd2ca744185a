/** Compares our answers with a reference file, case by case. */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { checkGenerateFile, DECODING_TOLERANCE, generateKind } from './generate-cases.ts';
import { checkLoadFile, isLoadFile } from './load-cases.ts';
import { openModel } from './golden-model.ts';
import { checkOptimizerFile, isOptimizerFile, OPTIMIZER_TOLERANCE } from './optimizer-cases.ts';
import { checkTrainingFile, trainingKind } from './training-cases.ts';
import { METRIC_ANSWERS, POSTPROCESSOR_ANSWERS, type Answer, type GoldenCase } from './metric-cases.ts';

export interface FileReport {
  readonly file: string;
  readonly numCases: number;
  /**
   * Largest |ours − reference| / max(1, |reference|) over all numbers; absolute for decoding, of a tensor's largest entry for optimizers, in
   * shares of their tolerances for training.
   */
  readonly worst: number;
  readonly tolerance: number;
  /** What differs beyond the tolerance, by case. */
  readonly failures: readonly string[];
}

interface Comparison {
  worst: number;
  numFigures: number;
  readonly failures: string[];
}

/**
 * A file in the form of golden/metrics, postprocess, generate, load, optimizers, dropout or finetune; undefined for other files.
 * @param engineName of the engine that computes
 */
export async function checkJsonFile(file: string, engineName = 'auto'): Promise<FileReport | undefined> {
  const text = await readFile(file, 'utf8');
  const content = JSON.parse(text) as GoldenCase;
  if (isLoadFile(content)) {
    const tolerance = content['logit_tolerance'] as number;
    return { file, tolerance, ...(await checkLoadFile(content, dirname(file), engineName)) };
  }
  if (isOptimizerFile(content)) {
    const report = await checkOptimizerFile(content, file.replace(/json$/u, 'safetensors'), engineName);
    return { file, tolerance: OPTIMIZER_TOLERANCE, ...report };
  }
  // In shares of each figure's own tolerance.
  if (trainingKind(content) !== undefined)
    return { file, tolerance: 1, ...(await checkTrainingFile(content, file, engineName)) };
  if (generateKind(content) === undefined) return checkJsonText(file, text);
  const engine = await openModel(file, content['model'] as string, engineName);
  try {
    return { file, tolerance: DECODING_TOLERANCE, ...(await checkGenerateFile(content, engine)) };
  } finally {
    await engine.dispose();
  }
}

/** As checkJsonFile, without files of decoding. @param answer replaces our own computation: tests plant errors */
export function checkJsonText(file: string, text: string, answer?: Answer): FileReport | undefined {
  const content = JSON.parse(text) as GoldenCase;
  const { metric, postprocessor, cases } = content;
  if (!Array.isArray(cases) || (typeof metric !== 'string' && typeof postprocessor !== 'string')) return undefined;
  const tolerance = (content['relative_tolerance'] as number | undefined) ?? 0;
  const compute = answer ?? (typeof metric === 'string' ? METRIC_ANSWERS[metric] : POSTPROCESSOR_ANSWERS[postprocessor as string]);
  const comparison: Comparison = { worst: 0, numFigures: 0, failures: [] };
  if (compute === undefined) comparison.failures.push(`nothing here computes ${String(metric ?? postprocessor)}`);
  else if (cases.length === 0) comparison.failures.push('the file has no case');
  else {
    (cases as GoldenCase[]).forEach((one, number) => {
      checkCase(one, number, compute, (content['options'] ?? {}) as GoldenCase, tolerance, comparison);
    });
  }
  return { file, numCases: cases.length, worst: comparison.worst, tolerance, failures: comparison.failures };
}

function checkCase(
  one: GoldenCase,
  number: number,
  compute: Answer,
  options: GoldenCase,
  tolerance: number,
  comparison: Comparison,
): void {
  const name = `case ${number} ${JSON.stringify(one['name'] ?? '')}`;
  const numBefore = comparison.numFigures;
  try {
    for (const [key, value] of Object.entries(compute(one, options))) {
      compare(value, one[key], `${name} ${key}`, tolerance, comparison);
    }
    if (comparison.numFigures === numBefore) comparison.failures.push(`${name}: nothing was compared`);
  } catch (error) {
    comparison.failures.push(`${name}: ${String(error)}`);
  }
}

/** Compares what the reference's answer and ours both hold; each figure of the reference's that is named alike counts. `null` there is NaN; `error`: it has no answer. */
function compare(ours: unknown, reference: unknown, place: string, tolerance: number, comparison: Comparison): void {
  if (typeof ours === 'object' && ours !== null && typeof reference === 'object' && reference !== null) {
    if ('error' in reference) {
      comparison.numFigures++;
      const isUndefined = Object.values(ours).every((value) => Number.isNaN(value));
      if (!isUndefined) comparison.failures.push(`${place}: ours ${JSON.stringify(ours)}, the reference raises ${String(reference.error)}`);
      return;
    }
    const wanted = reference as Readonly<Record<string, unknown>>;
    for (const [key, value] of Object.entries(ours)) {
      if (key in wanted) compare(value, wanted[key], `${place}.${key}`, tolerance, comparison);
    }
    return;
  }
  comparison.numFigures++;
  const isEqual =
    typeof ours === 'number' && Number.isNaN(ours)
      ? reference === null
      : typeof ours === 'number' && typeof reference === 'number'
        ? isWithin(ours, reference, tolerance, comparison)
        : ours === reference;
  if (!isEqual) comparison.failures.push(`${place}: ours ${JSON.stringify(ours)}, reference ${JSON.stringify(reference)}`);
}

function isWithin(ours: number, reference: number, tolerance: number, comparison: Comparison): boolean {
  const difference = ours === reference ? 0 : Math.abs(ours - reference) / Math.max(1, Math.abs(reference));
  comparison.worst = Math.max(comparison.worst, difference);
  return difference <= tolerance;
}
