/** Formats the summary at the end of a run: steps, losses, speed, checkpoint and the command to resume. Pure. */
import { formatBytes, formatDuration } from './doctor/finding.ts';
import type { LossSpan, RunSummaryView } from '../coordinator/run-summary.ts';

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
  const target = step >= steps ? String(steps + Math.max(1, stepsTrained)) : String(steps);
  const lines = [
    '',
    interrupted === undefined ? 'Run finished' : `Run interrupted by ${interrupted}; ${describeSaved(step, savedStep)}`,
    `  steps       ${step} of ${steps} (${stepsTrained} in this session)`,
    ...(stepsSkipped === 0 ? [] : [`  skipped     ${stepsSkipped} steps: their gradients were not finite`]),
    ...(loss === undefined ? [] : [`  loss        ${span(loss).trim()}`]),
    `  speed       ${tokensPerSecond} tokens/s (median), ${worldSize} worker${worldSize === 1 ? '' : 's'}`,
    ...formatPrediction(summary),
    `  parameters  ${paramDigest ?? 'not saved'}`,
    `  checkpoint  ${checkpoint ?? 'none'}`,
    `  resume      ${command(['--resume', runFolder, '--steps', target])}`,
    ...(Object.keys(taskLoss).length === 0 ? [] : ['', `  ${'task'.padEnd(width)}     first →    last loss`]),
    ...Object.entries(taskLoss).map(([task, losses]) => `  ${task.padEnd(width)}  ${span(losses)}`),
  ];
  return `${lines.join('\n')}\n`;
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
