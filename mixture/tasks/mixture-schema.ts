/** The schema of mixture.yaml. It is strict: an unknown key is an error. */
import { z } from 'zod';
import { SOURCE_FORMATS, type SourceFormat } from './task.ts';

/**
 * Also names the folder of the shards. So it has no separators, no leading dot, and no capitals (some file systems
 * ignore case).
 */
export const taskNameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_.-]{0,99}$/u,
    'must be small letters, digits, "_", "-" or ".", at most 100, not starting with a mark',
  );
const text = z.string().min(1, 'must not be empty');

const oneOrMore = z.union([text, z.array(text).min(1, 'must name at least one file')]);

/** A source in a mixture file: files by path or URL, or a split of a data set on a hub. */
export interface SourceEntry {
  readonly path?: string | string[] | undefined;
  readonly hub?: string | undefined;
  readonly config?: string | undefined;
  readonly split?: string | undefined;
  readonly revision?: string | undefined;
  readonly files?: string | string[] | undefined;
  readonly format?: SourceFormat | undefined;
  readonly quotes?: boolean | undefined;
}

const sourceShape = {
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
};

function checkSource(source: SourceEntry, context: z.RefinementCtx): void {
  const problem = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
  if ((source.path === undefined) === (source.hub === undefined))
    problem('path', 'a source has either path (files) or hub (a dataset of a hub)');
  else if (source.path !== undefined) {
    if (source.format === undefined) problem('format', `is needed with path: one of ${SOURCE_FORMATS.join(', ')}`);
    for (const key of ['config', 'split', 'revision', 'files'] as const)
      if (source[key] !== undefined) problem(key, 'belongs to hub, not to path');
  } else if (source.split === undefined) problem('split', 'is needed with hub, e.g. train');
}

/** Files by path or URL, or a split of a data set on a hub. */
export const sourceSchema = z.strictObject(sourceShape).superRefine(checkSource);

/** A source, or a part of train. */
export interface ValidationEntry extends SourceEntry {
  /** One of so many records of train; `none`: train keeps all, and there is no set. */
  readonly cut?: number | 'none' | undefined;
}

export const cutSchema = z.union(
  [z.int().min(2), z.literal('none')],
  'must be a whole number from 2 (one of so many records of train) or none',
);

const validationSchema = z.strictObject({ ...sourceShape, cut: cutSchema.optional() }).superRefine((entry, context) => {
  if (entry.cut === undefined) checkSource(entry, context);
  else if (Object.values(entry).filter((value) => value !== undefined).length > 1)
    context.addIssue({
      code: 'custom',
      path: ['cut'],
      message: 'is a part of train, so it has no other key beside it',
    });
});

/** A task that the file writes out. */
const writtenTaskSchema = z.strictObject({
  name: taskNameSchema,
  family: text,
  metrics: z.array(text).optional(),
  postprocess: text.optional(),
  references: text.optional(),
  fields: z.record(text, text).optional(),
  source: sourceSchema,
  validation: validationSchema.optional(),
  test: sourceSchema.optional(),
  inputs: text,
  targets: text,
  labels: z.array(text).min(2, 'must hold at least two labels').optional(),
});

/** One task of ExMix, or all tasks that a glob matches. */
const usedTasksSchema = z.strictObject({
  use: oneOrMore,
  except: z.union([text, z.array(text)]).optional(),
  name: taskNameSchema.optional(),
  source: sourceSchema.optional(),
  validation: validationSchema.optional(),
  test: sourceSchema.optional(),
});

/** A task in TypeScript. */
const moduleTaskSchema = z.strictObject({ module: text });

const writtenDenoisingSchema = z.strictObject({
  name: taskNameSchema,
  source: sourceSchema,
  validation: validationSchema.optional(),
  test: sourceSchema.optional(),
  text: text.optional(),
});

/** ExMix's denoising text, C4. */
const usedDenoisingSchema = z.strictObject({
  use: text,
  source: sourceSchema.optional(),
  validation: validationSchema.optional(),
  test: sourceSchema.optional(),
});

/**
 * The schema of the top. Each entry is checked alone, by the schema of its kind (`taskEntrySchema`,
 * `denoisingEntrySchema`).
 */
export const mixtureSchema = z.strictObject({
  name: taskNameSchema,
  tokenizer: text.optional(),
  given: text.optional(),
  tasks: z.array(z.unknown()).optional(),
  denoising: z.unknown().optional(),
});

export type MixtureFile = z.infer<typeof mixtureSchema>;
export type WrittenTask = z.infer<typeof writtenTaskSchema>;
export type UsedTasks = z.infer<typeof usedTasksSchema>;
export type ModuleTask = z.infer<typeof moduleTaskSchema>;
export type TaskEntry = WrittenTask | UsedTasks | ModuleTask;
export type DenoisingEntry = z.infer<typeof writtenDenoisingSchema> | z.infer<typeof usedDenoisingSchema>;

const hasKey = (entry: unknown, key: string): boolean =>
  typeof entry === 'object' && entry !== null && Object.hasOwn(entry, key);

/** The schema of an entry of `tasks`, chosen by the key that only its kind has. */
export function taskEntrySchema(entry: unknown) {
  if (hasKey(entry, 'use')) return usedTasksSchema;
  return hasKey(entry, 'module') ? moduleTaskSchema : writtenTaskSchema;
}

export function denoisingEntrySchema(entry: unknown) {
  return hasKey(entry, 'use') ? usedDenoisingSchema : writtenDenoisingSchema;
}

/**
 * The known keys at the place of an unknown one.
 * @param path the place as zod gives it, e.g. ['tasks', 3, 'source']
 * @param entry the entry of `tasks` or `denoising` around it
 */
export function knownKeysAt(path: readonly PropertyKey[], entry: unknown): readonly string[] {
  const key = path.at(-1);
  if (key === 'source' || key === 'test') return Object.keys(sourceSchema.shape);
  if (key === 'validation') return Object.keys(validationSchema.shape);
  if (path[0] === 'denoising') return Object.keys(denoisingEntrySchema(entry).shape);
  return Object.keys((path[0] === 'tasks' ? taskEntrySchema(entry) : mixtureSchema).shape);
}
