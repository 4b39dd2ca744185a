/** `run.json`: where the run stands, all that is needed besides tensors to go on as if it had never stopped. */
import { z } from 'zod';

const hex = z.string().regex(/^[0-9a-f]+$/, 'expected lower-case hex');

export const runRecordSchema = z.strictObject({
  exmixVersion: z.string(),
  /** Optimizer updates in the parameters. */
  step: z.int().nonnegative(),
  /** Where the mixture goes on. */
  cursor: z.json(),
  /** Purpose → seed, e.g. `data`, `init`. */
  seeds: z.record(z.string(), z.int()),
  /** The resolved configuration. */
  config: z.record(z.string(), z.json()),
  configHash: hex,
  mixtureHash: hex,
  /** Of the tokenizer that the mixture was prepared with; absent in checkpoints of 0.1.0. */
  tokenizerHash: hex.optional(),
  /** Of the engine that trained it: another one goes on with other bits. */
  engineFingerprint: z.string(),
  epoch: z.int().positive(),
  generation: z.int().nonnegative(),
  worldSize: z.int().positive(),
  /** `parameterDigest` of the parameters. */
  paramDigest: hex,
  /** ISO 8601, UTC. */
  savedAt: z.iso.datetime(),
});

export type RunRecord = z.output<typeof runRecordSchema>;
