/** What mixture.yaml may hold. Strict: an unknown key is an error, never ignored. */
import { z } from 'zod';
import { SOURCE_FORMATS } from './task.ts';

/** Also the name of a folder of shards, so: no separators, no leading dot, no capitals (file systems that fold case). */
const name = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_.-]{0,99}$/u,
    'must be small letters, digits, "_", "-" or ".", at most 100, not starting with a mark',
  );
const text = z.string().min(1, 'must not be empty');

const sourceSchema = z.strictObject({
  path: z.union([text, z.array(text).min(1, 'must name at least one file')]),
  format: z.enum(SOURCE_FORMATS),
  quotes: z.boolean().optional(),
});

const taskSchema = z.strictObject({
  name,
  family: text,
  metrics: z.array(text).optional(),
  source: sourceSchema,
  inputs: text,
  targets: text,
  labels: z.array(text).min(2, 'must hold at least two labels').optional(),
});

const denoisingSchema = z.strictObject({
  name,
  source: sourceSchema,
  text: text.optional(),
});

export const mixtureSchema = z.strictObject({
  name,
  tokenizer: text,
  tasks: z.array(taskSchema).optional(),
  denoising: denoisingSchema.optional(),
});

export type MixtureFile = z.infer<typeof mixtureSchema>;
export type SourceEntry = z.infer<typeof sourceSchema>;

/** The keys that are known where an unknown one was found. @param path where, as zod gives it, e.g. ['tasks', 3, 'source'] */
export function knownKeysAt(path: readonly PropertyKey[]): readonly string[] {
  if (path.at(-1) === 'source') return Object.keys(sourceSchema.shape);
  if (path[0] === 'denoising') return Object.keys(denoisingSchema.shape);
  if (path[0] === 'tasks') return Object.keys(taskSchema.shape);
  return Object.keys(mixtureSchema.shape);
}
