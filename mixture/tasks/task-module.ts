/**
 * Tasks in TypeScript: `- module: ./my-task.ts` in a mixture file.
 *
 * Definition: the default export is a Task, a list of them, or a function of a TaskContext that returns either.
 * Assumptions: jiti strips the types and loads the module synchronously, so it has no top-level await. Its relative paths are relative to
 * itself. `import { defineTask } from 'exmix'` resolves to this module, wherever exmix is installed. The hash of its file is part of each
 * preprocessor's identity, so a changed module is prepared again. Files that it imports are not hashed: raise `identity.version` if they
 * change.
 */
import { createRequire } from 'node:module';
import { basename, dirname } from 'node:path';
import type * as jiti from 'jiti';
import { z } from 'zod';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { vendoredFile } from '../../shared/package-files.ts';
import { buildEvaluation, buildValidation, TRAIN_CUT, type EvaluationEntry } from './evaluation-entry.ts';
import type { ModuleFile } from './known-modules.ts';
import { cutSchema, sourceSchema, taskNameSchema, type SourceEntry } from './mixture-schema.ts';
import { buildSource } from './source-entry.ts';
import { SOURCE_FORMATS, type EvaluationSplits, type SourceSpec, type Task } from './task.ts';

/** The argument of an exported function. */
export interface TaskContext {
  /** The folder of the module. */
  readonly folder: string;
  /** A source entry as in YAML: `source({ path: 'rows.jsonl', format: 'jsonl' })`. */
  readonly source: (entry: SourceEntry) => SourceSpec;
}

/** A task as a module writes it: sources, a preprocessor, and the names by which it is judged. */
export interface TaskDefinition
  extends Pick<Task, 'name' | 'family' | 'source' | 'preprocessor'>, Omit<EvaluationEntry, 'metrics'> {
  readonly metrics: readonly string[];
  /** A source; or one of so many records of train, which training leaves out; or none. Default: one of 20. */
  readonly validation?: SourceSpec | { readonly cut: number | 'none' };
  readonly test?: SourceSpec;
}

/** The default export of a task module. */
export type TaskModule =
  TaskDefinition | readonly TaskDefinition[] | ((context: TaskContext) => TaskDefinition | readonly TaskDefinition[]);

/** Gives a task module its type: `export default defineTask(({ source }) => ({ … }))`. @returns what it is given */
export function defineTask<Module extends TaskModule>(module: Module): Module {
  return module;
}

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
  postprocess: z.string().exactOptional(),
  labels: z.array(z.string()).exactOptional(),
  references: z.string().exactOptional(),
  fields: z.record(z.string(), z.string()).exactOptional(),
  validation: z.union([specSchema, z.strictObject({ cut: cutSchema })]).exactOptional(),
  test: specSchema.exactOptional(),
  preprocessor: z.object({
    identity: z.record(z.string(), z.json()),
    fields: z.array(z.string()),
    apply: z.custom<Task['preprocessor']['apply']>((value) => typeof value === 'function', 'expected a function'),
  }),
});

/**
 * Runs a module. The caller has decided that it may be run.
 * @throws CONFIG_INVALID with all problems, if the module cannot be loaded or its export is not a task
 */
export function loadTaskModule(file: ModuleFile): Task[] {
  const { path } = file;
  const { exported, hash } = exportOf(file);
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
    const original = (Array.isArray(value) ? value[i] : value) as TaskDefinition;
    const judged = buildEvaluation(task);
    if (!judged.ok) {
      const problems = judged.problems.map(({ at, message }) => `${at}: ${message}`).join('; ');
      throw new TrainerError('CONFIG_INVALID', `task ${task.name}: ${problems}`);
    }
    return {
      name: task.name,
      family: task.family,
      source: task.source,
      preprocessor: withModuleHash(original.preprocessor, hash),
      splits: splitsOf(task),
      evaluation: judged.evaluation,
    };
  });
}

function splitsOf({ validation, test }: z.infer<typeof taskSchema>): EvaluationSplits {
  const isSource = validation !== undefined && 'kind' in validation;
  return {
    validation: isSource
      ? [{ name: 'validation', source: validation }]
      : buildValidation(validation ?? { cut: TRAIN_CUT.oneIn }, ''),
    test: test === undefined ? [] : [{ name: 'test', source: test }],
  };
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

let loader: jiti.Jiti | undefined;

/** Loads jiti with the first module: each command imports this file, but few mixtures have modules. */
function moduleLoader(): jiti.Jiti {
  if (loader === undefined) {
    // jiti reads its own files at run time, so a build copies it and does not compile it in.
    const require = createRequire(import.meta.url);
    const { createJiti } = require(vendoredFile('jiti', 'lib/jiti.cjs')) as typeof jiti;
    loader = createJiti(import.meta.url, {
      fsCache: false,
      sourceMaps: true,
      virtualModules: { exmix: { defineTask } },
    });
  }
  return loader;
}

/** Modules that this process has loaded. Code is loaded once, so its hash is taken once, before loading. */
const loadedModules = new Map<string, { readonly exported: unknown; readonly hash: string }>();

function exportOf({ path, source, sha256: hash }: ModuleFile): { readonly exported: unknown; readonly hash: string } {
  const known = loadedModules.get(path);
  if (known !== undefined) return known;
  try {
    const loaded: unknown = moduleLoader().evalModule(source, { id: basename(path), filename: path });
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
