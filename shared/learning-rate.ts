/**
 * Learning rate of a step. Adafactor multiplies it by max(RMS(parameter), 1e-3), so it is a relative step size.
 * Source: mesh_tensorflow learning_rate_schedules; T5 pre-trains with inverse-square-root and fine-tunes with constant 0.001.
 */
import { z } from 'zod';
import { DECIDES_BITS } from './config/bits.ts';

const inverseSquareRoot = z
  .strictObject({
    kind: z.literal('inverse-square-root').meta(DECIDES_BITS),
    warmupSteps: z
      .int()
      .positive()
      .default(10_000)
      .describe('The rate is constant until this step and falls as step^-0.5 after it.')
      .meta(DECIDES_BITS),
    scale: z.number().positive().default(1).describe('Factor on 1/sqrt(max(step, warmupSteps)).').meta(DECIDES_BITS),
  })
  .describe('T5 pre-training: 0.01 for the first 10,000 steps, 0.001 at step 1,000,000.');

const constant = z
  .strictObject({
    kind: z.literal('constant').meta(DECIDES_BITS),
    value: z.number().positive().default(1e-3).describe('The rate.').meta(DECIDES_BITS),
  })
  .describe('T5 fine-tuning.');

export const scheduleSchema = z.discriminatedUnion('kind', [inverseSquareRoot, constant]);

export type Schedule = z.output<typeof scheduleSchema>;

/** @param step counted from 0 */
export function learningRate(schedule: Schedule, step: number): number {
  switch (schedule.kind) {
    case 'inverse-square-root':
      return schedule.scale / Math.sqrt(Math.max(step, schedule.warmupSteps));
    case 'constant':
      return schedule.value;
  }
}
