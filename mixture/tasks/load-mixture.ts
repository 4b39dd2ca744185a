/**
 * mixture.yaml → Mixture. One error reports all problems of the file, each with line and place.
 *
 * Modules are TypeScript: all are read before any of them runs, and `namedBy` (task.ts) decides which may run.
 *
 * Assumptions: relative paths are relative to the YAML file. Sources are checked only when they are read, so a mixture
 * can be listed on a machine without its data. Tasks that are not selected are left out before anybody looks for their
 * sources.
 */
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { BYTE_VOCABULARY } from '../../shared/byte-vocabulary.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { readSmallFileSync } from '../../shared/small-file.ts';
import { nearestHint } from '../../shared/nearest-names.ts';
import { C4 } from './exmix/c4.ts';
import { describeIssue, hintOf, MixtureDocument, type Problem } from './mixture-problems.ts';
import {
  denoisingEntrySchema,
  mixtureSchema,
  taskEntrySchema,
  type DenoisingEntry,
  type MixtureFile,
  type TaskEntry,
  type WrittenTask,
} from './mixture-schema.ts';
import { createNameSelection } from './name-patterns.ts';
import { buildEvaluation, buildSplits, buildTest, buildValidation, type WrittenSplits } from './evaluation-entry.ts';
import { buildSource } from './source-entry.ts';
import {
  TEXT_FIELD,
  type Denoising,
  type EvaluationSplits,
  type Mixture,
  type MixtureOptions,
  type SourceSpec,
  type Task,
} from './task.ts';
import { isKnownModule, readModuleFile, type ModuleFile } from './known-modules.ts';
import { loadTaskModule } from './task-module.ts';
import { createTemplatePreprocessor, missingField, parseTemplate } from './template.ts';
import { namesUsedAlone, planUsedTasks, type PlannedTask } from './use-tasks.ts';

/**
 * @throws PATH_UNUSABLE if the file cannot be read, CONFIG_INVALID with all problems, NAME_UNKNOWN for a selection, MODULE_NOT_TRUSTED
 */
export function loadMixture(path: string, options: MixtureOptions = {}): Mixture {
  const absolutePath = resolve(path);
  let yaml: string;
  try {
    yaml = readSmallFileSync(absolutePath).toString('utf8');
  } catch (error) {
    const message = `mixture file ${absolutePath} cannot be read; give one with --mixture PATH`;
    throw new TrainerError('PATH_UNUSABLE', message, { cause: error });
  }
  return parseMixture(yaml, absolutePath, options);
}

/**
 * @param path absolute. Messages name it, and relative paths are relative to it. @throws CONFIG_INVALID, NAME_UNKNOWN, MODULE_NOT_TRUSTED
 */
export function parseMixture(yaml: string, path: string, options: MixtureOptions = {}): Mixture {
  const document = new MixtureDocument(yaml, path);
  const value = document.value();
  const parsed = mixtureSchema.safeParse(value);
  const problems = parsed.success ? [] : parsed.error.issues.flatMap((issue) => describeIssue(issue, [], value));
  // The entries are checked even if a key at the top is wrong, so that one error reports all problems.
  const { tasks, denoising } = parsed.success ? parsed.data : entriesOf(value);
  const entries = (tasks ?? []).map((entry, i) =>
    parseEntry<TaskEntry>(taskEntrySchema(entry), entry, ['tasks', i], problems),
  );
  const denoisingEntry =
    denoising === undefined
      ? undefined
      : parseEntry<DenoisingEntry>(denoisingEntrySchema(denoising), denoising, ['denoising'], problems);
  const modules = readModules(entries, dirname(path), problems);
  if (options.namedBy !== undefined) refuseUnknown(modules, path, options.namedBy);
  const mixture = parsed.success
    ? buildMixture(parsed.data, { entries, modules, denoisingEntry }, path, options, problems)
    : undefined;
  if (problems.length > 0 || mixture === undefined) throw document.describe(problems);
  return mixture;
}

/** The supervised tasks in order, then the denoising task. */
export function allTasks({ tasks, denoising }: Mixture): (Task | Denoising)[] {
  return denoising === undefined ? [...tasks] : [...tasks, denoising];
}

/** The task with this name, supervised or denoising. @throws NAME_UNKNOWN with the nearest names */
export function findTask(mixture: Mixture, name: string): Task | Denoising {
  const tasks = allTasks(mixture);
  const task = tasks.find((candidate) => candidate.name === name);
  if (task !== undefined) return task;
  const names = tasks.map((candidate) => candidate.name);
  const hint = nearestHint(name, names, `its tasks: ${names.join(', ')}`);
  throw new TrainerError('NAME_UNKNOWN', `mixture ${mixture.name} has no task "${name}"; ${hint}`);
}

function entriesOf(value: unknown): { tasks?: readonly unknown[]; denoising?: unknown } {
  if (typeof value !== 'object' || value === null) return {};
  const tasks: unknown = 'tasks' in value ? value.tasks : undefined;
  return {
    ...(Array.isArray(tasks) ? { tasks: tasks as readonly unknown[] } : {}),
    ...('denoising' in value ? { denoising: value.denoising } : {}),
  };
}

/** Adds what is wrong to `problems`. */
function parseEntry<T>(
  schema: z.ZodType<T>,
  entry: unknown,
  path: readonly PropertyKey[],
  problems: Problem[],
): T | undefined {
  const parsed = schema.safeParse(entry);
  if (parsed.success) return parsed.data;
  problems.push(...parsed.error.issues.flatMap((issue) => describeIssue(issue, path, entry)));
  return undefined;
}

/** Task modules by their absolute path. */
type Modules = ReadonlyMap<string, ModuleFile>;

/** Reads the modules, and runs none. Adds the unreadable ones to `problems`. */
function readModules(entries: readonly (TaskEntry | undefined)[], folder: string, problems: Problem[]): Modules {
  const modules = new Map<string, ModuleFile>();
  for (const [i, entry] of entries.entries()) {
    if (entry === undefined || !('module' in entry)) continue;
    const path = resolve(folder, entry.module);
    try {
      modules.set(path, readModuleFile(path));
    } catch (error) {
      problems.push({ path: ['tasks', i, 'module'], message: `cannot be loaded: ${toTrainerError(error).message}` });
    }
  }
  return modules;
}

/** @throws MODULE_NOT_TRUSTED */
function refuseUnknown(modules: Modules, path: string, namedBy: string): void {
  const unknown = [...modules.values()].filter((module) => !isKnownModule(module));
  if (unknown.length === 0) return;
  const files = unknown.map((module) => `  ${module.path} (SHA-256 ${module.sha256})`).join('\n');
  throw new TrainerError(
    'MODULE_NOT_TRUSTED',
    `${namedBy} names the mixture ${path}, and that names TypeScript that no mixture prepared on this machine has:\n${files}\n` +
      'Nothing of it was run: code of a checkpoint or run folder may be a stranger’s. Read it; then give --trust-modules ' +
      '(in a program: trustModules), or name the mixture yourself with --set mixture.path=FILE, --config or --preset',
  );
}

function buildMixture(
  file: MixtureFile,
  {
    entries,
    modules,
    denoisingEntry,
  }: {
    readonly entries: readonly (TaskEntry | undefined)[];
    readonly modules: Modules;
    readonly denoisingEntry: DenoisingEntry | undefined;
  },
  path: string,
  options: MixtureOptions,
  problems: Problem[],
): Mixture | undefined {
  const folder = dirname(path);
  const givenFolder = options.given ?? file.given;
  const context = {
    folder,
    ...(givenFolder === undefined
      ? {}
      : { givenFolder: resolve(options.given === undefined ? folder : '.', givenFolder) }),
    modules,
    usedByName: namesUsedAlone(entries.flatMap((entry) => (entry !== undefined && 'use' in entry ? [entry] : []))),
    problems,
  };
  const planned = entries.flatMap((entry, i) =>
    entry === undefined ? [] : planEntry(entry, { ...context, path: ['tasks', i] }),
  );
  let denoising = denoisingEntry === undefined ? undefined : buildDenoising(denoisingEntry, folder, problems);
  problems.push(...duplicateNames(planned, denoising));
  if ((file.tasks ?? []).length === 0 && file.denoising === undefined)
    problems.push({ path: [], message: 'has neither tasks nor denoising' });
  const tokenizer = options.tokenizer ?? file.tokenizer;
  if (tokenizer === undefined)
    problems.push({
      path: ['tokenizer'],
      message:
        'expected the path of a SentencePiece model (T5: spiece.model) or bytes (ByT5), found none; write it here or give --tokenizer FILE (for a run: --set mixture.tokenizer=FILE)',
    });
  // A selection is checked only in a file without problems: its names may be wrong because of them.
  const isSelected = problems.length === 0 ? createSelection(options.tasks, planned, denoising) : () => true;
  const tasks = planned.filter(({ name }) => isSelected(name)).flatMap((task) => task.build() ?? []);
  if (denoising !== undefined && !isSelected(denoising.name)) denoising = undefined;
  return {
    name: file.name,
    path,
    tokenizerPath:
      tokenizer === BYTE_VOCABULARY
        ? BYTE_VOCABULARY
        : resolve(options.tokenizer === undefined ? folder : '.', tokenizer ?? ''),
    tasks,
    ...(denoising === undefined ? {} : { denoising }),
    modules: [...modules.values()],
    options,
  };
}

function planEntry(
  entry: TaskEntry,
  context: Parameters<typeof planUsedTasks>[1] & { readonly modules: Modules },
): PlannedTask[] {
  const { path, folder, problems } = context;
  if ('use' in entry) return planUsedTasks(entry, context);
  if ('module' in entry) {
    const file = context.modules.get(resolve(folder, entry.module));
    if (file === undefined) return []; // could not be read
    try {
      return loadTaskModule(file).map((task) => ({
        name: task.name,
        path,
        build: () => task,
      }));
    } catch (error) {
      problems.push({ path: [...path, 'module'], message: toTrainerError(error).message });
      return [];
    }
  }
  const task = buildWrittenTask(entry, path, folder, problems);
  return [{ name: entry.name, path: [...path, 'name'], build: () => task }];
}

/** A task that the file writes out: two templates and a source. Undefined if `problems` has what is wrong. */
function buildWrittenTask(
  entry: WrittenTask,
  path: readonly PropertyKey[],
  folder: string,
  problems: Problem[],
): Task | undefined {
  const source = buildSource(entry.source, folder);
  const found = (['inputs', 'targets'] as const).flatMap((key) => templateProblems(entry[key], source, [...path, key]));
  if (entry.labels !== undefined && new Set(entry.labels).size < entry.labels.length)
    found.push({ path: [...path, 'labels'], message: 'a label is listed twice' });
  const judged = buildEvaluation(entry);
  if (!judged.ok) found.push(...judged.problems.map(({ at, message }) => ({ path: [...path, at], message })));
  problems.push(...found);
  if (found.length > 0 || !judged.ok) return undefined;
  const { inputs, targets, labels } = entry;
  const preprocessor = createTemplatePreprocessor({ inputs, targets, ...(labels === undefined ? {} : { labels }) });
  const splits = buildSplits(entry, folder);
  return { name: entry.name, family: entry.family, source, preprocessor, splits, evaluation: judged.evaluation };
}

/** The denoising text: C4, or text that the file names. */
function buildDenoising(entry: DenoisingEntry, folder: string, problems: Problem[]): Denoising | undefined {
  if ('use' in entry) {
    if (entry.use !== C4.name) {
      problems.push({
        path: ['denoising', 'use'],
        message: `ExMix has no denoising text "${entry.use}"; ${hintOf(entry.use, [C4.name])}`,
      });
      return undefined;
    }
    const source = entry.source === undefined ? C4.source : buildSource(entry.source, folder);
    // C4's validation files do not belong to another source.
    const known = entry.source === undefined ? C4.splits : undefined;
    return { name: C4.name, source, text: C4.text, ...textSplits(entry, folder, known) };
  }
  const source = buildSource(entry.source, folder);
  const text = entry.text ?? `{${TEXT_FIELD}}`;
  problems.push(...templateProblems(text, source, ['denoising', 'text']));
  return { name: entry.name, source, text, ...textSplits(entry, folder) };
}

/** Text has only the sets that it names: a cut of a corpus is not taken unasked. */
function textSplits(written: WrittenSplits, folder: string, known?: EvaluationSplits): Pick<Denoising, 'splits'> {
  const { validation, test } = written;
  const sets = {
    validation: validation === undefined ? (known?.validation ?? []) : buildValidation(validation, folder),
    test: test === undefined ? (known?.test ?? []) : buildTest(test, folder),
  };
  return sets.validation.length + sets.test.length === 0 ? {} : { splits: sets };
}

function templateProblems(template: string, source: SourceSpec, path: readonly PropertyKey[]): Problem[] {
  try {
    const { fields } = parseTemplate(template);
    if (source.format !== 'text') return [];
    return fields
      .filter((name) => name !== TEXT_FIELD)
      .map((name) => ({ path, message: missingField(name, [TEXT_FIELD]) }));
  } catch (error) {
    return [{ path, message: toTrainerError(error).message }];
  }
}

function duplicateNames(planned: readonly PlannedTask[], denoising: Denoising | undefined): Problem[] {
  const seen = new Set<string>();
  const problems: Problem[] = [];
  const named = planned.map(({ path, name }) => ({ path, name }));
  if (denoising !== undefined) named.push({ path: ['denoising', 'name'], name: denoising.name });
  for (const { path, name } of named) {
    if (seen.has(name)) problems.push({ path, message: `an earlier task already has the name "${name}"` });
    seen.add(name);
  }
  return problems;
}

/** @throws NAME_UNKNOWN with all patterns that match no task of the mixture */
function createSelection(
  patterns: readonly string[] | undefined,
  planned: readonly PlannedTask[],
  denoising: Denoising | undefined,
): (name: string) => boolean {
  if (patterns === undefined) return () => true;
  const names = [...planned.map(({ name }) => name), ...(denoising === undefined ? [] : [denoising.name])];
  return createNameSelection(patterns, names);
}
