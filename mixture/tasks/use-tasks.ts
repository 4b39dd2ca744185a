/** `- use:` entries of a mixture file: tasks of ExMix by name or glob, with another source or name where one is given. */
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
  /** Folder of the mixture file. */
  readonly folder: string;
  /** Absolute folder with the files of sets that have no home on a hub. */
  readonly givenFolder?: string;
  /** Names that entries of their own use: a glob leaves them to those. */
  readonly usedByName: ReadonlySet<string>;
  /** Where the entry stands. */
  readonly path: readonly PropertyKey[];
  readonly problems: Problem[];
}

/** A task that may be left out before it is known whether its source can be had. */
export interface PlannedTask {
  readonly name: string;
  readonly path: readonly PropertyKey[];
  /** Undefined: told as a problem. */
  build(): Task | undefined;
}

/** Names that `use` entries give without a glob. */
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
      problems.push({ path: [...path, key], message: `belongs to the use of one task, not of ${patterns.join(', ')}` });
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

/** What to bring for a set without a home on a hub. */
function describeMissing(task: ExmixTask, source: GivenSource): string {
  return (
    `${task.name} has no home on a hub: bring ${givenFileName(task.name, source)} ` +
    `(${source.format} with ${Object.keys(task.columns).join(', ')}) in a folder given:, or name it in source:, or leave it out ` +
    `with except:; exmix tasks show ${task.name} says where it is published`
  );
}

/** Names that patterns match; one that matches nothing is a problem. */
function expand(patterns: readonly string[], path: readonly PropertyKey[], problems: Problem[]): string[] {
  return patterns.flatMap((pattern) => {
    const names = matchNames(pattern, TASK_NAMES);
    if (names.length === 0) {
      const hint =
        pattern === C4.name ? `it belongs under denoising: { use: ${C4.name} }` : hintOf(pattern, TASK_NAMES);
      problems.push({ path, message: `ExMix has no task "${pattern}"; ${hint}` });
    }
    return names;
  });
}
