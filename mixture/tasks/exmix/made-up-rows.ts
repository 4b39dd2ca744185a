/**
 * Made-up rows of ExMix's tasks: a few rows in the schema of the real source, and the examples that a task must make of them.
 *
 * They are YAML files in examples/, one for each group of the table, and are read only when asked for: `exmix tasks show NAME` prints
 * the first row, tests check every task against all rows. Neither training nor preparing imports this file.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { parseYaml } from '../../../shared/parse-yaml.ts';
import { assertInvariant } from '../../../shared/errors.ts';
import { packageFile } from '../../../shared/package-files.ts';
import type { SourceFields } from '../task.ts';
import { C4 } from './c4.ts';
import { TASK_GROUPS } from './exmix.ts';

const columnsSchema = z.record(z.string(), z.string()).default({});

const madeUpRowsSchema = z.strictObject({
  /** Columns of the source that the rule does not read, with their types. */
  otherColumns: columnsSchema,
  /** Complete types of columns of which the rule reads a part. */
  fullColumns: columnsSchema,
  rows: z.array(z.record(z.string(), z.unknown())).min(1),
  /** The examples of all rows, in order. A row that the task leaves out has none; a document of C4 has empty targets. */
  expected: z.array(z.strictObject({ inputs: z.string(), targets: z.string() })).min(1),
});

export type MadeUpRows = z.infer<typeof madeUpRowsSchema>;

/** A made-up row and the example that the task makes of it. */
export interface MadeUpExample {
  readonly row: SourceFields;
  readonly inputs: string;
  readonly targets: string;
}

/** The groups of the table, and C4 as a group of its own. */
export const MADE_UP_GROUPS: readonly string[] = [...Object.keys(TASK_GROUPS), 'c4'];

/** Task name → its rows, for one group. */
export function loadMadeUpRows(group: string): ReadonlyMap<string, MadeUpRows> {
  const yaml = readFileSync(packageFile(`mixture/tasks/exmix/examples/${group}.yaml`), 'utf8');
  return new Map(Object.entries(z.record(z.string(), madeUpRowsSchema).parse(parseYaml(yaml, group).value)));
}

/** The first made-up row of a task, with its example. @param name a task of the table, or C4 */
export function madeUpExample(name: string): MadeUpExample {
  const isIn = (group: string) => TASK_GROUPS[group]?.some((task) => task.name === name) ?? name === C4.name;
  const group = MADE_UP_GROUPS.find(isIn);
  const made = group === undefined ? undefined : loadMadeUpRows(group).get(name);
  const [row] = made?.rows ?? [];
  const [example] = made?.expected ?? [];
  assertInvariant(row !== undefined && example !== undefined, `task ${name} has made-up rows`);
  return { row, ...example };
}
