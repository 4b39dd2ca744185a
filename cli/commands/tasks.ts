/**
 * `exmix tasks`: lists the tasks of ExMix or of a given mixture. `exmix tasks show NAME`: all facts of one task, with rendered examples.
 * `exmix tasks overlap`: the examples of evaluation sets that are in train.
 *
 * Without --mixture (or with --mixture exmix) it shows the built-in table, which needs neither tokenizer nor data. Its examples are made
 * up and labelled so. For another mixture, the examples are the first rows of the source.
 */
import { EXMIX_NAMES } from '../../mixture/tasks/exmix/exmix.ts';
import { describeExmix } from '../../mixture/tasks/exmix/describe-exmix.ts';
import { allTasks } from '../../mixture/tasks/load-mixture.ts';
import { SPLITS } from '../../mixture/tasks/task.ts';
import { createNameSelection } from '../../mixture/tasks/name-patterns.ts';
import { TrainerError } from '../../shared/errors.ts';
import { nearestHint } from '../../shared/nearest-names.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { addMixtureOptions, chooseMixture, type MixtureArguments } from '../mixture-options.ts';
import { printExmixTask, printExmixTasks } from '../print-exmix-tasks.ts';

interface TasksArguments extends MixtureArguments {
  words?: string[] | undefined;
  samples: number;
  splits: string[];
  json: boolean;
}

export const tasksCommand: CommandBody<TasksArguments> = {
  builder: (parser) =>
    addMixtureOptions(parser)
      .positional('words', { type: 'string', array: true, describe: 'list, or show NAME, or NAME, or overlap' })
      .option('samples', { type: 'number', default: 2, describe: 'Number of examples to show' })
      .option('splits', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [SPLITS.join(',')],
        describe: 'overlap: the splits that train is compared with',
      })
      .option('json', { type: 'boolean', default: false, describe: 'JSON instead of a table' })
      .example('$0 tasks --json', 'all 107 tasks of ExMix and C4, with sizes and rates')
      .example('$0 tasks show glue_mnli', 'source, columns, templates, labels and an example of one task')
      .example('$0 tasks show satire --mixture demo --samples 3', 'three examples of a task of the demo mixture')
      .example('$0 tasks overlap --mixture demo', 'examples of evaluation sets that are in train of any task'),
  handler: async (args) => {
    if (!Number.isSafeInteger(args.samples) || args.samples < 0)
      throw new TrainerError('CONFIG_INVALID', `--samples: expected a whole number from 0, got ${args.samples}`);
    await standardOutput.print(await tasksText(args));
  },
};

/**
 * @returns the output of the command
 * @throws NAME_UNKNOWN, CONFIG_INVALID, PATH_UNUSABLE; the errors of reading the source
 */
export async function tasksText(args: TasksArguments): Promise<string> {
  if (args.words?.[0] === 'overlap' && args.words.length === 1) {
    // Loaded here: other words need neither the tokenizer nor sources.
    const { findAndPrintOverlap } = await import('../find-and-print-overlap.ts');
    const splits = args.splits.flatMap((list) => list.split(/[\s,]+/u).filter((split) => split !== ''));
    return findAndPrintOverlap(chooseMixture(args), { splits, json: args.json });
  }
  const name = nameOf(args.words ?? []);
  const isDemoTask = name !== undefined && args.mixture === undefined && !EXMIX_NAMES.includes(name);
  if (!isDemoTask && (args.mixture === undefined || args.mixture === 'exmix')) return exmixText(name, args);
  const { mixture, folder } = chooseMixture(args);
  // Loaded here: the built-in table needs no source.
  const { printMixtureTask, printMixtureTasks } = await import('../print-mixture-tasks.ts');
  if (name === undefined) return printMixtureTasks(mixture, folder, args.json);
  const names = allTasks(mixture).map((task) => task.name);
  if (isDemoTask && !names.includes(name)) throw unknownTask(name, [...EXMIX_NAMES, ...names]);
  return printMixtureTask(mixture, folder, name, args.samples, args.json);
}

function exmixText(name: string | undefined, { tasks: patterns, json }: TasksArguments): string {
  const isSelected = patterns === undefined ? () => true : createNameSelection(patterns, EXMIX_NAMES);
  const tasks = describeExmix().filter((task) => isSelected(task.name));
  if (name === undefined) return printExmixTasks(tasks, json);
  const task = tasks.find((candidate) => candidate.name === name);
  if (task !== undefined) return printExmixTask(task, json);
  throw unknownTask(
    name,
    tasks.map((candidate) => candidate.name),
  );
}

/** @throws CONFIG_INVALID for words that are neither list, show NAME nor NAME */
function nameOf(words: readonly string[]): string | undefined {
  const [first, second, ...rest] = words;
  if (first === undefined || (first === 'list' && second === undefined)) return undefined;
  if (first === 'show' && second !== undefined && rest.length === 0) return second;
  if (first !== 'show' && second === undefined) return first;
  throw new TrainerError(
    'CONFIG_INVALID',
    `tasks: expected list, show NAME or NAME, or overlap; got "${words.join(' ')}"`,
  );
}

function unknownTask(name: string, names: readonly string[]): TrainerError {
  return new TrainerError(
    'NAME_UNKNOWN',
    `there is no task "${name}"; ${nearestHint(name, names, '"exmix tasks" lists them')}`,
  );
}
