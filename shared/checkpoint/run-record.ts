/** `run.json`: everything besides tensors that a run needs to continue as if it had not stopped. */
import { z } from 'zod';

const hex = z.string().regex(/^[0-9a-f]+$/, 'expected lower-case hex');

export const runRecordSchema = z.strictObject({
  exmixVersion: z.string(),
  /** Optimizer updates in the parameters. */
  step: z.int().nonnegative(),
  /** Cursor of the mixture plan. */
  cursor: z.json(),
  /** Purpose → seed, e.g. `data`, `init`. */
  seeds: z.record(z.string(), z.int()),
  /** The resolved configuration. */
  config: z.record(z.string(), z.json()),
  configHash: hex,
  mixtureHash: hex,
  /** Of the tokenizer of the prepared mixture; absent in checkpoints of 0.1.0. */
  tokenizerHash: hex.optional(),
  /** Of the engine that trained it: another engine gives other bits. */
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
