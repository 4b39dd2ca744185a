/** `exmix tasks`: what a mixture consists of; `exmix tasks NAME`: one task, with examples as the model will read them. */
import type { CommandModule } from 'yargs';
import { readManifests, type PreparedFacts } from '../../mixture/prepare/read-manifests.ts';
import { readSamples } from '../../mixture/prepare/read-samples.ts';
import { findTask } from '../../mixture/tasks/load-mixture.ts';
import type { Denoising, Mixture, SourceSpec, Task, TextPair } from '../../mixture/tasks/task.ts';
import { addMixtureOptions, chooseMixture, type MixtureArguments } from '../mixture-options.ts';
import { formatNumber, formatTable } from '../text-table.ts';

interface TasksArguments extends MixtureArguments {
  name?: string | undefined;
  samples: number;
  json: boolean;
}

export const tasksCommand: CommandModule<object, TasksArguments> = {
  command: 'tasks [name]',
  describe: 'Lists the tasks of a mixture, or shows one with examples',
  builder: (parser) =>
    addMixtureOptions(parser)
      .positional('name', { type: 'string', describe: 'Task to show; without it all are listed' })
      .option('samples', { type: 'number', default: 2, describe: 'Examples to show of a task' })
      .option('json', { type: 'boolean', default: false, describe: 'JSON instead of a table' })
      .example('$0 tasks', 'the tasks of the demo mixture')
      .example('$0 tasks satire --samples 3', 'three examples of one of them'),
  handler: async (args) => {
    const { mixture, folder } = chooseMixture(args);
    const prepared = await readManifests(folder);
    if (args.name === undefined) {
      const tasks = listTasks(mixture, prepared);
      process.stdout.write(
        args.json ? `${JSON.stringify(tasks)}\n` : formatList(tasks, folder, prepared !== undefined),
      );
      return;
    }
    const task = findTask(mixture, args.name);
    const shown = { ...describeTask(task, prepared), samples: await readSamples(task, args.samples) };
    process.stdout.write(args.json ? `${JSON.stringify(shown)}\n` : formatTask(shown));
  },
};

interface ListedTask {
  readonly name: string;
  readonly family: string;
  readonly format: string;
  /** Known when prepared. */
  readonly numExamples?: number;
}

interface DescribedTask extends ListedTask {
  readonly files: readonly string[];
  readonly rule: unknown;
  readonly metrics: readonly string[];
  readonly prepared?: unknown;
}

const familyOf = (task: Task | Denoising) => ('family' in task ? task.family : 'denoising');

function listTasks(mixture: Mixture, prepared: PreparedFacts | undefined): ListedTask[] {
  const tasks = [...mixture.tasks, ...(mixture.denoising === undefined ? [] : [mixture.denoising])];
  return tasks.map((task) => {
    const numExamples = prepared?.tasks.get(task.name)?.numExamples;
    const facts = { name: task.name, family: familyOf(task), format: task.source.format ?? 'parquet' };
    return numExamples === undefined ? facts : { ...facts, numExamples };
  });
}

function formatList(tasks: readonly ListedTask[], folder: string, isPrepared: boolean): string {
  const rows = tasks.map(({ name, family, format, numExamples }) => [name, family, format, numExamples ?? '-']);
  const note = isPrepared ? `prepared in ${folder}` : 'not prepared yet: exmix prepare';
  return `${formatTable(['task', 'family', 'format', 'examples'], rows)}${tasks.length} tasks, ${note}\n`;
}

function describeTask(task: Task | Denoising, prepared: PreparedFacts | undefined): DescribedTask {
  const manifest = prepared?.tasks.get(task.name);
  return {
    name: task.name,
    family: familyOf(task),
    format: task.source.format ?? 'parquet',
    files: filesOf(task.source),
    rule: 'preprocessor' in task ? task.preprocessor.identity : { kind: 'denoising', text: task.text },
    metrics: 'metrics' in task ? task.metrics : [],
    ...(manifest === undefined
      ? {}
      : {
          numExamples: manifest.numExamples,
          prepared: {
            numTokens: manifest.numTokens,
            truncated: manifest.truncated,
            numRows: manifest.numRows,
            malformedRows: manifest.malformed.numRows,
          },
        }),
  };
}

function filesOf(source: SourceSpec): readonly string[] {
  if (source.kind === 'files') return source.files.map(({ location }) => location);
  const { dataset, config = 'default', split, revision = 'main' } = source;
  return [`hub: ${dataset} ${config} ${split} ${revision}`];
}

function formatTask(task: DescribedTask & { readonly samples: readonly TextPair[] }): string {
  const facts = [
    ['task', task.name],
    ['family', task.family],
    ['source', `${task.format}: ${task.files.join(', ')}`],
    ['rule', JSON.stringify(task.rule)],
    ['metrics', task.metrics.join(', ') || '-'],
    ['examples', task.numExamples === undefined ? 'not prepared yet: exmix prepare' : formatNumber(task.numExamples)],
    ...(task.prepared === undefined ? [] : [['prepared', JSON.stringify(task.prepared)]]),
  ];
  const head = facts.map(([name, value]) => `${name!.padEnd(9)} ${value!}\n`).join('');
  const samples = task.samples.map(
    ({ inputs, targets }) => `\n  inputs:  ${inputs}\n${targets === '' ? '' : `  targets: ${targets}\n`}`,
  );
  return head + samples.join('');
}
