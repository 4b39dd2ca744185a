/** The steps in which a task had its highest mean loss, or most tokens. */
import { TrainerError } from '../../shared/errors.ts';
import { nearestNames } from '../../shared/nearest-names.ts';
import type { LedgerReader } from './ledger-reader.ts';
import type { SegmentHeader } from './segment-format.ts';
import type { TaskFigures } from './step-record.ts';

export interface TopStep {
  readonly step: number;
  readonly figures: TaskFigures;
}

export interface TopInit {
  readonly by: 'loss' | 'tokens';
  /** Name of the task. */
  readonly task: string;
  /** First and last step of the search. */
  readonly from: number;
  readonly to: number;
  /** How many steps to return. */
  readonly count: number;
}

/**
 * Reads the figures of all steps of the range, not the rows.
 * @returns highest first, ties by step @throws NAME_UNKNOWN, LEDGER_CORRUPT
 */
export async function findTopSteps(reader: LedgerReader, { by, task, from, to, count }: TopInit): Promise<TopStep[]> {
  taskNumber(reader.newestHeader, task);
  const top: { readonly step: number; readonly figures: TaskFigures; readonly value: number }[] = [];
  for await (const { step, tasks, header } of reader.steps({ from, to })) {
    const number = header.tasks.findIndex(([name]) => name === task);
    const figures = tasks.find((candidate) => candidate.task === number);
    const value = by === 'loss' ? figures?.loss : figures && figures.inputTokens + figures.targetTokens;
    if (figures === undefined || value === undefined) continue;
    top.push({ step, figures, value });
    top.sort((a, b) => b.value - a.value || a.step - b.step);
    if (top.length > count) top.pop();
  }
  return top.map(({ step, figures }) => ({ step, figures }));
}

/** The number of a task by its name. @throws NAME_UNKNOWN with the nearest names */
export function taskNumber({ tasks }: SegmentHeader, name: string): number {
  const number = tasks.findIndex(([candidate]) => candidate === name);
  if (number >= 0) return number;
  const names = tasks.map(([candidate]) => candidate);
  const near = nearestNames(name, names);
  const hint = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `its tasks: ${names.join(', ')}`;
  throw new TrainerError('NAME_UNKNOWN', `--task ${name}: the run has no such task; ${hint}`);
}
