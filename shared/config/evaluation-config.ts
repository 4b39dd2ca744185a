/** The settings of an evaluation without a run: its engine and its workers. */
import { z } from 'zod';
import { TrainerError } from '../errors.ts';
import { clusterSchema, computeSchema } from './schema.ts';

const evaluationConfigSchema = z.strictObject({
  compute: computeSchema.prefault({}),
  cluster: clusterSchema.prefault({}),
});

export type EvaluationConfig = z.output<typeof evaluationConfigSchema>;

/** Fills in defaults. @throws CONFIG_INVALID with every problem */
export function checkEvaluationConfig(tree: unknown, origin: string): EvaluationConfig {
  const parsed = evaluationConfigSchema.safeParse(tree);
  if (parsed.success) return parsed.data;
  throw new TrainerError('CONFIG_INVALID', `${origin}: ${z.prettifyError(parsed.error)}`, { cause: parsed.error });
}
