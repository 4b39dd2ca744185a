/**
 * Learning rate of a step. Adafactor and adamw-rms multiply it by max(RMS(parameter), 1e-3): there it is a relative step size.
 * Sources: mesh_tensorflow learning_rate_schedules (T5 pre-trains with inverse-square-root and fine-tunes with constant 0.001); nanoT5 for
 * warm-up and cosine (torch's LinearLR, then CosineAnnealingLR); Transformers' get_linear_schedule_with_warmup for linear.
 *
 * linear, cosine, t counted from 0:
 *   t < warmupSteps:   peak · (warmupFrom + (1 − warmupFrom) · t / warmupSteps)
 *   then, with x = min(1, (t − warmupSteps) / (totalSteps − warmupSteps)):
 *   linear             floor + (peak − floor) · (1 − x)
 *   cosine             floor + (peak − floor) · (1 + cos(π·x)) / 2
 */
import { z } from 'zod';
import { DECIDES_BITS } from './config/bits.ts';

const warmupSteps = (least: number) =>
  z
    .int()
    .min(least)
    .default(10_000)
    .describe('inverse-square-root: constant until this step, then falls as step^-0.5. linear, cosine: rises until it.')
    .meta(DECIDES_BITS);

const inverseSquareRoot = z
  .strictObject({
    kind: z.literal('inverse-square-root').meta(DECIDES_BITS),
    warmupSteps: warmupSteps(1),
    scale: z.number().positive().default(1).describe('Factor on 1/sqrt(max(step, warmupSteps)).').meta(DECIDES_BITS),
  })
  .describe('T5 pre-training: 0.01 for the first 10,000 steps, 0.001 at step 1,000,000.');

const constant = z
  .strictObject({
    kind: z.literal('constant').meta(DECIDES_BITS),
    value: z.number().positive().default(1e-3).describe('The rate.').meta(DECIDES_BITS),
  })
  .describe('T5 fine-tuning.');

/** Settings of a rate that rises to a peak and falls to a floor. */
const peaked = {
  warmupSteps: warmupSteps(0),
  warmupFrom: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe("linear, cosine: share of the peak at step 0; nanoT5's is 0.5.")
    .meta(DECIDES_BITS),
  totalSteps: z
    .int()
    .positive()
    .describe('linear, cosine: the floor is reached at this step and kept.')
    .meta(DECIDES_BITS),
  peak: z.number().positive().describe('linear, cosine: the rate at the end of the warm-up.').meta(DECIDES_BITS),
  floor: z.number().min(0).default(0).describe('linear, cosine: the lowest rate.').meta(DECIDES_BITS),
};

const linear = z.strictObject({ kind: z.literal('linear').meta(DECIDES_BITS), ...peaked });
const cosine = z.strictObject({ kind: z.literal('cosine').meta(DECIDES_BITS), ...peaked });

export const scheduleSchema = z.discriminatedUnion('kind', [inverseSquareRoot, constant, linear, cosine]);

export type Schedule = z.output<typeof scheduleSchema>;
type PeakedSchedule = Extract<Schedule, { kind: 'linear' | 'cosine' }>;

/** @param step counted from 0 */
export function learningRate(schedule: Schedule, step: number): number {
  switch (schedule.kind) {
    case 'inverse-square-root':
      return schedule.scale / Math.sqrt(Math.max(step, schedule.warmupSteps));
    case 'constant':
      return schedule.value;
    case 'linear':
      return peakedRate(schedule, step, (x) => 1 - x);
    case 'cosine':
      return peakedRate(schedule, step, (x) => (1 + Math.cos(Math.PI * x)) / 2);
  }
}

/** @param fall from 1 at 0 to 0 at 1 */
function peakedRate(schedule: PeakedSchedule, step: number, fall: (x: number) => number): number {
  const { warmupSteps: warmup, warmupFrom, totalSteps, peak, floor } = schedule;
  if (step < warmup) return peak * (warmupFrom + ((1 - warmupFrom) * step) / warmup);
  if (step >= totalSteps) return floor;
  return floor + (peak - floor) * fall((step - warmup) / (totalSteps - warmup));
}

/** The relations between the settings of a schedule that do not hold: the setting, expected, found. */
export function findScheduleProblems(schedule: Schedule): { readonly setting: string; readonly problem: string }[] {
  if (schedule.kind !== 'linear' && schedule.kind !== 'cosine') return [];
  const { warmupSteps: warmup, totalSteps, peak, floor } = schedule;
  return [
    ...(totalSteps > warmup
      ? []
      : [{ setting: 'totalSteps', problem: `expected more than warmupSteps (${warmup}), got ${totalSteps}` }]),
    ...(floor <= peak ? [] : [{ setting: 'floor', problem: `expected at most peak (${peak}), got ${floor}` }]),
  ];
}
