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

const oneOrMore = z.union([text, z.array(text).min(1, 'must name at least one file')]);

/** Files by path or URL, or a split of a dataset of a hub. */
const sourceSchema = z
  .strictObject({
    path: oneOrMore.optional(),
    hub: z
      .string()
      .regex(/^[\w.-]+(\/[\w.-]+)?$/u, 'must be the id of a dataset, like nyu-mll/glue')
      .optional(),
    config: text.optional(),
    split: text.optional(),
    revision: text.optional(),
    files: oneOrMore.optional(),
    format: z.enum(SOURCE_FORMATS).optional(),
    quotes: z.boolean().optional(),
  })
  .superRefine((source, context) => {
    const problem = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
    if ((source.path === undefined) === (source.hub === undefined))
      problem('path', 'a source has either path (files) or hub (a dataset of a hub)');
    else if (source.path !== undefined) {
      if (source.format === undefined) problem('format', `is needed with path: one of ${SOURCE_FORMATS.join(', ')}`);
      for (const key of ['config', 'split', 'revision', 'files'] as const)
        if (source[key] !== undefined) problem(key, 'belongs to hub, not to path');
    } else if (source.split === undefined) problem('split', 'is needed with hub, e.g. train');
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
