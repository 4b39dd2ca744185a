/**
 * Mixing rates: the share of all draws for each task.
 *
 * Definition (ExT5, section 3.1; seqio `mixing_rate_num_examples`): a supervised task with n examples has the rate
 * min(n, K)^(1/T). Its share of ExMix is its rate divided by the sum of the rates. R denoising examples are drawn for
 * each ExMix example, so ExMix has 1/(R+1) of all draws, and denoising has R/(R+1).
 * Assumptions: n counts examples after preprocessing. Several denoising tasks divide the denoising share by their
 * weights, else by their sizes, without the cap.
 */

import { TrainerError } from '../../shared/errors.ts';
import { nearestNames } from '../../shared/nearest-names.ts';

export interface TaskSize {
  readonly name: string;
  readonly kind: 'supervised' | 'denoising';
  readonly numExamples: number;
  /** Of a denoiser: its computed rate, in place of the number of its examples. */
  readonly weight?: number;
}

export interface RateOptions {
  /** K: a supervised task counts as at most this many examples. */
  readonly cap: number;
  /** T ≥ 1: larger values make the rates more equal; 1 does not change them. */
  readonly temperature: number;
  /** R: denoising examples for each ExMix example. 0 leaves denoising out. */
  readonly denoisingRatio: number;
  /** Task name → rate that replaces the computed one, in (capped) examples. 0 leaves the task out. */
  readonly overrides: Readonly<Record<string, number>>;
}

/** The paper's mixture: K = 300,000, T = 1, R = 2. */
export const PAPER_RATES: RateOptions = { cap: 300_000, temperature: 1, denoisingRatio: 2, overrides: {} };

export interface TaskRate extends TaskSize {
  /** min(n, K) for a supervised task, n for a denoising task. */
  readonly cappedExamples: number;
  /** Not normalized: cappedExamples^(1/T), or the user's rate. */
  readonly rate: number;
  /** Share of the ExMix draws. 0 for a denoising task. */
  readonly exmixShare: number;
  /** Share of all draws. The shares of a mixture add up to 1. */
  readonly share: number;
}

/**
 * The rate of each task, in the given order.
 * @throws CONFIG_INVALID if an option is out of range or no task has a positive rate; NAME_UNKNOWN for a user rate
 * without a task
 */
export function computeRates(tasks: readonly TaskSize[], options: RateOptions): TaskRate[] {
  checkOptions(tasks, options);
  const rates = tasks.map((task) => ({ ...task, ...computeRate(task, options) }));
  const sumOf = (kind: TaskSize['kind']) =>
    rates.reduce((sum, { kind: other, rate }) => (other === kind ? sum + rate : sum), 0);
  const supervisedSum = sumOf('supervised');
  const denoisingSum = options.denoisingRatio === 0 ? 0 : sumOf('denoising');
  if (supervisedSum === 0 && denoisingSum === 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: expected at least one task with a positive rate, found none among ${tasks.length} tasks; prepare a task with examples or set its rate above 0`,
    );
  if (denoisingSum === 0 && options.denoisingRatio > 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: denoising ratio R = ${options.denoisingRatio} but no denoising task has a positive rate; add one or set R to 0`,
    );
  // Without supervised tasks all draws are denoising: the baseline of the paper.
  const denoisingShare = supervisedSum === 0 ? 1 : options.denoisingRatio / (options.denoisingRatio + 1);
  return rates.map((task) => {
    if (task.kind === 'denoising') {
      const share = denoisingSum === 0 ? 0 : (task.rate / denoisingSum) * denoisingShare;
      return { ...task, exmixShare: 0, share };
    }
    const exmixShare = supervisedSum === 0 ? 0 : task.rate / supervisedSum;
    return { ...task, exmixShare, share: exmixShare * (1 - denoisingShare) };
  });
}

/** Expected number of passes over a task in `numDraws` draws of the whole mixture. 0 for a task without draws. */
export function expectedEpochs(task: TaskRate, numDraws: number): number {
  return task.share === 0 ? 0 : (task.share * numDraws) / task.numExamples;
}

function computeRate(task: TaskSize, options: RateOptions): { cappedExamples: number; rate: number } {
  const cappedExamples = task.kind === 'denoising' ? task.numExamples : Math.min(task.numExamples, options.cap);
  const computed =
    task.kind === 'denoising' ? (task.weight ?? cappedExamples) : cappedExamples ** (1 / options.temperature);
  const override = Object.hasOwn(options.overrides, task.name) ? options.overrides[task.name] : undefined;
  return { cappedExamples, rate: override ?? computed };
}

function checkOptions(tasks: readonly TaskSize[], options: RateOptions): void {
  const expect = (valid: boolean, what: string, expected: string, found: number) => {
    if (!valid)
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: ${what}: expected ${expected}, found ${found}; correct the value`,
      );
  };
  const { cap, temperature, denoisingRatio, overrides } = options;
  expect(cap > 0, 'cap K', 'a number above 0', cap);
  expect(temperature >= 1 && Number.isFinite(temperature), 'temperature T', 'a number of at least 1', temperature);
  expect(
    denoisingRatio >= 0 && Number.isFinite(denoisingRatio),
    'denoising ratio R',
    'a number of at least 0',
    denoisingRatio,
  );
  const names = new Set<string>();
  for (const { name, numExamples } of tasks) {
    expect(Number.isSafeInteger(numExamples) && numExamples >= 0, `examples of task ${name}`, 'a count', numExamples);
    if (names.has(name))
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: task ${name} is listed twice; names must be distinct: remove one`,
      );
    names.add(name);
  }
  for (const [name, rate] of Object.entries(overrides)) {
    if (!names.has(name))
      throw new TrainerError(
        'NAME_UNKNOWN',
        `mixture: rate given for task ${name}, which the mixture does not have; nearest: ${nearestNames(name, [...names]).join(', ')}`,
      );
    expect(rate >= 0 && Number.isFinite(rate), `rate of task ${name}`, 'a number of at least 0', rate);
  }
}
