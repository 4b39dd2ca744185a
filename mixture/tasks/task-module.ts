/**
 * Tasks in TypeScript: `- module: ./my-task.ts` in a mixture file.
 *
 * Definition: the default export is a Task, a list of them, or a function of a TaskContext that returns either.
 * Assumptions: the module is loaded synchronously (tsx), so it has no top-level await. Its relative paths are relative
 * to itself. The hash of its file is part of each preprocessor's identity, so a changed module is prepared again. Files
 * that it imports are not hashed: raise `identity.version` if they change.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import type * as tsx from 'tsx/cjs/api';
import { z } from 'zod';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { sourceSchema, taskNameSchema, type SourceEntry } from './mixture-schema.ts';
import { buildSource } from './source-entry.ts';
import { SOURCE_FORMATS, type SourceSpec, type Task } from './task.ts';

/** The argument of an exported function. */
export interface TaskContext {
  /** The folder of the module. */
  readonly folder: string;
  /** A source entry as in YAML: `source({ path: 'rows.jsonl', format: 'jsonl' })`. */
  readonly source: (entry: SourceEntry) => SourceSpec;
}

/** The default export of a task module. */
export type TaskModule = Task | readonly Task[] | ((context: TaskContext) => Task | readonly Task[]);

const location = z.strictObject({ location: z.string(), name: z.string() });
const format = z.enum(SOURCE_FORMATS);
const specSchema: z.ZodType<SourceSpec> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('files'), format, quotes: z.boolean(), files: z.array(location).min(1) }),
  z.strictObject({
    kind: z.literal('hub'),
    dataset: z.string(),
    config: z.string().exactOptional(),
    split: z.string(),
    revision: z.string().exactOptional(),
    files: z.array(z.string()).exactOptional(),
    format: format.exactOptional(),
    quotes: z.boolean().exactOptional(),
  }),
]);
const taskSchema = z.object({
  name: taskNameSchema,
  family: z.string().min(1),
  source: specSchema,
  metrics: z.array(z.string()),
  preprocessor: z.object({
    identity: z.record(z.string(), z.json()),
    fields: z.array(z.string()),
    apply: z.custom<Task['preprocessor']['apply']>((value) => typeof value === 'function', 'expected a function'),
  }),
});

/**
 * @param path absolute
 * @throws CONFIG_INVALID with all problems, if the module cannot be loaded or its export is not a task
 */
export function loadTaskModule(path: string): Task[] {
  const { exported, hash } = exportOf(path);
  const folder = dirname(path);
  const context: TaskContext = { folder, source: (entry) => buildSource(sourceSchema.parse(entry), folder) };
  const value =
    typeof exported === 'function' ? callFactory(exported as (given: TaskContext) => unknown, context, path) : exported;
  const parsed = z
    .array(taskSchema)
    .min(1)
    .safeParse(Array.isArray(value) ? value : [value]);
  if (!parsed.success)
    throw new TrainerError(
      'CONFIG_INVALID',
      `its default export must be a Task, a list of them or a function that returns them: ${z.prettifyError(parsed.error)}`,
    );
  return parsed.data.map((task, i) => {
    const original = (Array.isArray(value) ? value[i] : value) as Task;
    return { ...task, preprocessor: withModuleHash(original.preprocessor, hash) };
  });
}

/**
 * The task's own preprocessor, with the module's hash in its identity. `apply` is called on the original, which may be
 * a class instance.
 */
function withModuleHash(preprocessor: Task['preprocessor'], hash: string): Task['preprocessor'] {
  return {
    identity: { kind: 'module', sha256: hash, rule: preprocessor.identity },
    fields: preprocessor.fields,
    apply: (fields) => preprocessor.apply(fields),
  };
}

/** Loads tsx with the first module: each command imports this file, but few mixtures have modules. */
function moduleLoader(): Pick<typeof tsx, 'require'> {
  return createRequire(import.meta.url)('tsx/cjs/api') as typeof tsx;
}

/** Modules that this process has loaded. Code is loaded once, so its hash is taken once, before loading. */
const loadedModules = new Map<string, { readonly exported: unknown; readonly hash: string }>();

function exportOf(path: string): { readonly exported: unknown; readonly hash: string } {
  const known = loadedModules.get(path);
  if (known !== undefined) return known;
  try {
    const hash = createHash('sha256').update(readFileSync(path)).digest('hex');
    const loaded: unknown = moduleLoader().require(path, import.meta.url);
    const exported: unknown =
      typeof loaded === 'object' && loaded !== null && 'default' in loaded ? loaded.default : undefined;
    loadedModules.set(path, { exported, hash });
    return { exported, hash };
  } catch (error) {
    throw new TrainerError('CONFIG_INVALID', `cannot be loaded: ${toTrainerError(error).message}`, { cause: error });
  }
}

function callFactory(factory: (context: TaskContext) => unknown, context: TaskContext, path: string): unknown {
  try {
    return factory(context);
  } catch (error) {
    const message = `the function that ${path} exports failed: ${toTrainerError(error).message}`;
    throw new TrainerError('CONFIG_INVALID', message, { cause: error });
  }
}
