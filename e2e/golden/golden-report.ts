/** Compares our answers with a reference file, case by case. */
import { readFile } from 'node:fs/promises';
import { METRIC_ANSWERS, POSTPROCESSOR_ANSWERS, type GoldenCase } from './metric-cases.ts';

export interface FileReport {
  readonly file: string;
  readonly numCases: number;
  /** Largest |ours − reference| / max(1, |reference|) over all numbers. */
  readonly worst: number;
  readonly tolerance: number;
  /** What differs beyond the tolerance, by case. */
  readonly failures: readonly string[];
}

interface Comparison {
  worst: number;
  readonly failures: string[];
}

/** A file in the form of golden/metrics and golden/postprocess; undefined if it has neither `metric` nor `postprocessor`. */
export async function checkJsonFile(file: string): Promise<FileReport | undefined> {
  const content = JSON.parse(await readFile(file, 'utf8')) as GoldenCase;
  const { metric, postprocessor, cases } = content;
  if (!Array.isArray(cases) || (typeof metric !== 'string' && typeof postprocessor !== 'string')) return undefined;
  const answer = typeof metric === 'string' ? METRIC_ANSWERS[metric] : POSTPROCESSOR_ANSWERS[postprocessor as string];
  const tolerance = (content['relative_tolerance'] as number | undefined) ?? 0;
  if (answer === undefined) {
    return { file, numCases: 0, worst: Infinity, tolerance, failures: [`nothing here computes ${String(metric ?? postprocessor)}`] };
  }
  const comparison: Comparison = { worst: 0, failures: [] };
  (cases as GoldenCase[]).forEach((one, number) => {
    const name = `case ${number} ${JSON.stringify(one['name'] ?? '')}`;
    try {
      const ours = answer(one, (content['options'] ?? {}) as GoldenCase);
      for (const [key, value] of Object.entries(ours)) compare(value, one[key], `${name} ${key}`, tolerance, comparison);
    } catch (error) {
      comparison.failures.push(`${name}: ${String(error)}`);
    }
  });
  return { file, numCases: cases.length, worst: comparison.worst, tolerance, failures: comparison.failures };
}

/** Every figure that we compute must be in the reference's answer and equal to it; the reference may have more. `null` there is NaN. */
function compare(ours: unknown, reference: unknown, place: string, tolerance: number, comparison: Comparison): void {
  if (typeof ours === 'number') {
    if (reference === null || reference === undefined) {
      if (reference === undefined || !Number.isNaN(ours)) comparison.failures.push(`${place}: ours ${ours}, reference ${String(reference)}`);
      return;
    }
    const difference = typeof reference === 'number' ? Math.abs(ours - reference) / Math.max(1, Math.abs(reference)) : NaN;
    comparison.worst = Math.max(comparison.worst, difference);
    if (!(difference <= tolerance)) comparison.failures.push(`${place}: ours ${ours}, reference ${String(reference)}`);
  } else if (typeof ours === 'object' && ours !== null) {
    if (typeof reference !== 'object' || reference === null) {
      comparison.failures.push(`${place}: ours ${JSON.stringify(ours)}, reference ${JSON.stringify(reference)}`);
      return;
    }
    const wanted = reference as Readonly<Record<string, unknown>>;
    const found = ours as Readonly<Record<string, unknown>>;
    for (const key of Object.keys(found)) if (!(key in wanted)) continue; else compare(found[key], wanted[key], `${place}.${key}`, tolerance, comparison);
  } else if (ours !== reference) comparison.failures.push(`${place}: ours ${JSON.stringify(ours)}, reference ${JSON.stringify(reference)}`);
}
