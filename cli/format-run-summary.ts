/** Formats the summary at the end of a run: steps, losses, speed, checkpoint and the command to resume. Pure. */
import { formatBytes, formatDuration } from './doctor/finding.ts';
import { isPartOfScore } from '../coordinator/checkpoint/validation-score.ts';
import type { LossSpan, RunSummaryView } from '../coordinator/run-summary.ts';
import type { ValidationOfStep } from '../coordinator/validation/validator.ts';
import { formatTable } from './text-table.ts';

export interface RunFacts {
  readonly runFolder: string;
  /** Steps of the whole run. */
  readonly steps: number;
  /** Name of the signal that stopped it before its last step was saved. */
  readonly interrupted: string | undefined;
  /** Flags → the command of this run to paste. */
  readonly command: (words: readonly string[]) => string;
}

export function formatRunSummary(
  summary: RunSummaryView,
  { runFolder, steps, interrupted, command }: RunFacts,
): string {
  const {
    step,
    savedStep,
    stepsTrained,
    stepsSkipped,
    loss,
    taskLoss,
    tokensPerSecond,
    worldSize,
    paramDigest,
    checkpoint,
  } = summary;
  const width = Math.max(4, ...Object.keys(taskLoss).map((name) => name.length));
  const span = ({ first, last }: LossSpan) => `${first.toFixed(3).padStart(8)} → ${last.toFixed(3).padStart(7)}`;
  const { stoppedEarly } = summary;
  const target = step >= steps ? String(steps + Math.max(1, stepsTrained)) : String(steps);
  const goOn =
    stoppedEarly === undefined || step >= steps
      ? ['--steps', target]
      : ['--set', `evaluation.stopWhen.patience=${stoppedEarly.patience + 1}`];
  const lines = [
    '',
    interrupted === undefined ? 'Run finished' : `Run interrupted by ${interrupted}; ${describeSaved(step, savedStep)}`,
    `  steps       ${step} of ${steps} (${stepsTrained} in this session)`,
    ...(stoppedEarly === undefined ? [] : [`  stopped     ${stoppedEarly.reason}`]),
    ...(stepsSkipped === 0 ? [] : [`  skipped     ${stepsSkipped} steps: their gradients were not finite`]),
    ...(loss === undefined ? [] : [`  loss        ${span(loss).trim()}`]),
    `  speed       ${tokensPerSecond} tokens/s (median), ${worldSize} worker${worldSize === 1 ? '' : 's'}`,
    ...formatPrediction(summary),
    `  parameters  ${paramDigest ?? 'not saved'}`,
    `  checkpoint  ${checkpoint ?? 'none'}`,
    `  resume      ${command(['--resume', runFolder, ...goOn])}`,
    ...(Object.keys(taskLoss).length === 0 ? [] : ['', `  ${'task'.padEnd(width)}     first →    last loss`]),
    ...Object.entries(taskLoss).map(([task, losses]) => `  ${task.padEnd(width)}  ${span(losses)}`),
    ...formatValidation(summary),
  ];
  return `${lines.join('\n')}\n`;
}

/** Losses and scores of the newest validation, a line for each metric of a task, and which one is the best. */
function formatValidation({ validation }: RunSummaryView): string[] {
  const { newest, best } = validation ?? {};
  if (newest === undefined) return [];
  const rows = Object.entries(newest.tasks).flatMap(([task, { numExamples, loss, metrics }]) => {
    const facts = [numExamples, loss === null ? '-' : loss.toFixed(3)];
    const scores = Object.entries(metrics).map(([metric, figures]) => [metric, formatFigures(metric, figures)]);
    const [first = ['', ''], ...others] = scores;
    return [[task, ...facts, ...first], ...others.map((score) => ['', '', '', ...score])];
  });
  const head = ['task', 'examples', 'loss', 'metric', 'score'];
  const table = formatTable(head, rows).trimEnd().split('\n');
  const score = ({ metric, score: value }: ValidationOfStep) => `${metric} ${value?.toFixed(2) ?? 'not defined'}`;
  const isBest = best === undefined || best.step === newest.step;
  const bestStep = best === undefined ? '' : isBest ? ', the best so far' : `; best: step ${best.step}, ${score(best)}`;
  return [
    '',
    `  ${newest.split} after step ${newest.step}: ${score(newest)}${bestStep}`,
    ...table.map((line) => `  ${line}`),
  ];
}

/** `61.20` of a metric with one score of its name, else `em 60.00, f1 80.00`. */
function formatFigures(metric: string, figures: Readonly<Record<string, number | null>>): string {
  const text = (value: number | null) => value?.toFixed(2) ?? '-';
  return Object.entries(figures)
    .filter(([name]) => !isPartOfScore(name))
    .map(([name, value]) => (name === metric ? text(value) : `${name} ${text(value)}`))
    .join(', ');
}

/** `step 20 is NOT saved: …` @param savedStep 0: there is no checkpoint */
export function describeSaved(step: number, savedStep: number): string {
  if (step === savedStep) return step === 0 ? 'no step was trained' : 'everything is saved';
  const newest = savedStep === 0 ? 'there is no checkpoint' : `the newest checkpoint has step ${savedStep}`;
  return `step ${step} is NOT saved: ${newest}, and the steps after it are trained again`;
}

/** Step time and memory: measured, and as the workers predicted them at start. */
function formatPrediction({ predicted, measured }: RunSummaryView): string[] {
  if (predicted === undefined || measured === undefined) return [];
  const times = (ratio: number) => `${ratio.toFixed(2)} times the prediction`;
  const step = `${formatDuration(measured.stepMs / 1000)} compute and update, ${times(measured.stepMs / predicted.stepMs)} of ${formatDuration(predicted.stepMs / 1000)}`;
  const memory = `${formatBytes(measured.workerBytes)} a worker, ${times(measured.workerBytes / predicted.workerBytes)} of ${formatBytes(predicted.workerBytes)}`;
  return [`  step        ${step}`, `  memory      ${memory}`];
}
