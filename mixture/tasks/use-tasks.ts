/** `- use:` entries of a mixture file: tasks of ExMix by name or glob, optionally with another source or name. */
import { resolve } from 'node:path';
import { C4 } from './exmix/c4.ts';
import { EXMIX_TASKS } from './exmix/exmix.ts';
import { givenFileName, toTask, type ExmixTask, type GivenSource } from './exmix/exmix-task.ts';
import { hintOf, type Problem } from './mixture-problems.ts';
import type { UsedTasks } from './mixture-schema.ts';
import { isPattern, matchNames } from './name-patterns.ts';
import { buildSource, listOf } from './source-entry.ts';
import type { SourceSpec, Task } from './task.ts';

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
  for (const key of ['name', 'source'] as const)
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
      return source === undefined ? undefined : toTask(task, source, name);
    },
  };
}

function sourceOf(task: ExmixTask, entry: UsedTasks, context: UseContext): SourceSpec | undefined {
  if (entry.source !== undefined) return buildSource(entry.source, context.folder);
  const { source } = task;
  if (source.kind === 'hub') return source;
  if (context.givenFolder !== undefined) {
    const file = givenFileName(task.name, source);
    const { format, quotes } = source;
    return { kind: 'files', format, quotes, files: [{ location: resolve(context.givenFolder, file), name: file }] };
  }
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
