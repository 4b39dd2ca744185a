/** `- use:` entries of a mixture file: tasks of ExMix by name or glob, optionally with another source or name. */
import { resolve } from 'node:path';
import { assertInvariant } from '../../shared/errors.ts';
import { buildTest, buildValidation, TRAIN_CUT } from './evaluation-entry.ts';
import { C4 } from './exmix/c4.ts';
import type { DeclaredSet } from './exmix/declared-splits.ts';
import { EXMIX_TASKS } from './exmix/exmix.ts';
import { givenFileName, toTask, type ExmixTask, type GivenSource } from './exmix/exmix-task.ts';
import { createRulePreprocessor } from './exmix/rule.ts';
import { hintOf, type Problem } from './mixture-problems.ts';
import type { UsedTasks } from './mixture-schema.ts';
import { isPattern, matchNames } from './name-patterns.ts';
import { buildSource, listOf } from './source-entry.ts';
import type { EvaluationSet, EvaluationSplits, SourceSpec, SplitName, Task } from './task.ts';

const TASK_NAMES: readonly string[] = EXMIX_TASKS.map(({ name }) => name);
const byName = new Map(EXMIX_TASKS.map((task) => [task.name, task]));

export interface UseContext {
  /** The folder of the mixture file. */
  readonly folder: string;
  /** Absolute path of the folder with the files of sets that the hub does not have. */
  readonly givenFolder?: string;
  /** Names that have their own `use` entry. Globs skip them. */
  readonly usedByName: ReadonlySet<string>;
  /** The place of the entry. */
  readonly path: readonly PropertyKey[];
  readonly problems: Problem[];
}

/** A task whose source is not built yet: a selection may leave it out first. */
export interface PlannedTask {
  readonly name: string;
  readonly path: readonly PropertyKey[];
  /** Undefined if it has added a problem. */
  build(): Task | undefined;
}

/** Names that `use` entries list without a glob. */
export function namesUsedAlone(entries: readonly UsedTasks[]): Set<string> {
  return new Set(entries.flatMap(({ use }) => listOf(use).filter((name) => !isPattern(name))));
}

export function planUsedTasks(entry: UsedTasks, context: UseContext): PlannedTask[] {
  const { problems, path } = context;
  const except = new Set(expand(listOf(entry.except ?? []), [...path, 'except'], problems));
  const patterns = listOf(entry.use);
  const names = patterns.flatMap((pattern) =>
    expand([pattern], [...path, 'use'], problems).filter(
      (name) => !isPattern(pattern) || !context.usedByName.has(name),
    ),
  );
  const chosen = [...new Set(names)].filter((name) => !except.has(name));
  const isOne = patterns.length === 1 && !isPattern(patterns[0]!);
  for (const key of ['name', 'source', 'validation', 'test'] as const)
    if (entry[key] !== undefined && !isOne)
      problems.push({
        path: [...path, key],
        message: `is only allowed with the use of one task, not of ${patterns.join(', ')}`,
      });
  return chosen.flatMap((name) => {
    const task = byName.get(name);
    return task === undefined ? [] : [planTask(task, isOne ? entry : { use: entry.use }, context)];
  });
}

function planTask(task: ExmixTask, entry: UsedTasks, context: UseContext): PlannedTask {
  const name = entry.name ?? task.name;
  return {
    name,
    path: context.path,
    build() {
      const source = sourceOf(task, entry, context);
      return source === undefined ? undefined : toTask(task, source, splitsOf(task, source, entry, context), name);
    },
  };
}

/** The splits of the file, else those of the table. */
function splitsOf(task: ExmixTask, train: SourceSpec, entry: UsedTasks, context: UseContext): EvaluationSplits {
  const declared = (split: SplitName) => task.splits[split].map((set) => toEvaluationSet(task, train, set, context));
  const { folder } = context;
  const { validation, test } = entry;
  return {
    validation: validation === undefined ? declared('validation') : buildValidation(validation, folder),
    test: test === undefined ? declared('test') : buildTest(test, folder),
  };
}

function toEvaluationSet(
  task: ExmixTask,
  train: SourceSpec,
  declared: DeclaredSet,
  { givenFolder }: UseContext,
): EvaluationSet {
  const { name } = declared;
  const { source } = task;
  switch (declared.kind) {
    case 'split': {
      assertInvariant(source.kind === 'hub', `the table's ${task.name} has splits of the hub and a source of the hub`);
      const { files } = declared;
      const own = { ...source, split: name, ...(files === undefined ? {} : { files }) };
      if (declared.keep === undefined) return { name, source: own };
      const { inputs, targets, labels, derive, each } = task.rule;
      const allRows = { inputs, targets, labels, derive, ...(each === undefined ? {} : { each }) };
      return { name, source: own, preprocessor: createRulePreprocessor(allRows, task.columns) };
    }
    case 'given': {
      assertInvariant(source.kind === 'given', `the table's ${task.name} has files to bring for all its splits`);
      const file = givenFileName(task.name, source, name);
      if (givenFolder === undefined) return { name, source: { kind: 'missing', file, how: declared.how } };
      return { name, source: givenFile(source, givenFolder, file) };
    }
    case 'rows':
      return {
        name,
        source: train,
        preprocessor: createRulePreprocessor({ ...task.rule, keep: declared.keep }, task.columns),
      };
    case 'cut':
      return { name, source: TRAIN_CUT };
  }
}

function givenFile({ format, quotes }: GivenSource, folder: string, file: string): SourceSpec {
  return { kind: 'files', format, quotes, files: [{ location: resolve(folder, file), name: file }] };
}

function sourceOf(task: ExmixTask, entry: UsedTasks, context: UseContext): SourceSpec | undefined {
  if (entry.source !== undefined) return buildSource(entry.source, context.folder);
  const { source } = task;
  if (source.kind === 'hub') return source;
  if (context.givenFolder !== undefined)
    return givenFile(source, context.givenFolder, givenFileName(task.name, source));
  context.problems.push({ path: [...context.path, 'use'], message: describeMissing(task, source) });
  return undefined;
}

/** Says which file to bring for a set that the hub does not have. */
function describeMissing(task: ExmixTask, source: GivenSource): string {
  return (
    `the hub does not have ${task.name}: bring ${givenFileName(task.name, source)} ` +
    `(${source.format} with ${Object.keys(task.columns).join(', ')}) in the folder given:, or name it in source:, or leave the task ` +
    `out with except:; exmix tasks show ${task.name} says where it is published`
  );
}

/** The names that match. Adds a problem for each pattern that matches nothing. */
function expand(patterns: readonly string[], path: readonly PropertyKey[], problems: Problem[]): string[] {
  return patterns.flatMap((pattern) => {
    const names = matchNames(pattern, TASK_NAMES);
    if (names.length === 0) {
      const hint = pattern === C4.name ? `write it as denoising: { use: ${C4.name} }` : hintOf(pattern, TASK_NAMES);
      problems.push({ path, message: `ExMix has no task "${pattern}"; ${hint}` });
    }
    return names;
  });
}
