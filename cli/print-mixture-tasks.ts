/** Prints the tasks of a mixture as text or JSON: from its file, its manifests and the first rows of a source. */
import { nameLocation } from '../shared/storage/location.ts';
import type { Postprocess } from '../shared/task-evaluation.ts';
import { readManifests, type PreparedFacts } from '../mixture/prepare/read-manifests.ts';
import { readSamples } from '../mixture/prepare/read-samples.ts';
import { allTasks, findTask } from '../mixture/tasks/load-mixture.ts';
import type { Denoising, EvaluationSet, Mixture, SourceSpec, Task, TextPair } from '../mixture/tasks/task.ts';
import { formatNumber, formatTable } from './text-table.ts';

/** @param folder of the prepared mixture; may be missing */
export async function printMixtureTasks(mixture: Mixture, folder: string, asJson: boolean): Promise<string> {
  const prepared = await readManifests(folder);
  const tasks = listTasks(mixture, prepared);
  return asJson ? `${JSON.stringify(tasks)}\n` : formatList(tasks, folder, prepared !== undefined);
}

/** @throws NAME_UNKNOWN; the errors of reading the source */
export async function printMixtureTask(
  mixture: Mixture,
  folder: string,
  name: string,
  numSamples: number,
  asJson: boolean,
): Promise<string> {
  const task = findTask(mixture, name);
  const described = describeTask(task, await readManifests(folder));
  const shown = { ...described, samples: numSamples === 0 ? [] : await readSamples(task, numSamples) };
  return asJson ? `${JSON.stringify(shown)}\n` : formatTask(shown);
}

interface ListedTask {
  readonly name: string;
  readonly family: string;
  readonly format: string;
  /** Undefined until the task is prepared. */
  readonly numExamples?: number;
}

interface DescribedTask extends ListedTask {
  readonly files: readonly string[];
  readonly rule: unknown;
  readonly metrics: readonly string[];
  /** Undefined for denoising. */
  readonly postprocess?: Postprocess;
  readonly splits?: Readonly<Record<string, readonly string[]>>;
  readonly prepared?: unknown;
}

const familyOf = (task: Task | Denoising) => ('family' in task ? task.family : 'denoising');

function listTasks(mixture: Mixture, prepared: PreparedFacts | undefined): ListedTask[] {
  return allTasks(mixture).map((task) => {
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
    metrics: 'evaluation' in task ? task.evaluation.metrics : [],
    ...('evaluation' in task ? { postprocess: task.evaluation.postprocess, splits: splitsOf(task) } : {}),
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

function splitsOf({ splits: { validation, test } }: Task): Readonly<Record<string, readonly string[]>> {
  return Object.fromEntries([...validation, ...test].map(({ name, source }) => [name, whereFrom(source)]));
}

function whereFrom(source: EvaluationSet['source']): readonly string[] {
  if (source.kind === 'cut') return [`one of ${source.oneIn} records of train`];
  return source.kind === 'missing' ? [`bring ${source.file}: ${source.how}`] : filesOf(source);
}

function filesOf(source: SourceSpec): readonly string[] {
  if (source.kind === 'files') return source.files.map(({ location }) => nameLocation(location));
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
    ...(task.postprocess === undefined ? [] : [['judged', `by ${task.postprocess.name}`]]),
    ...Object.entries(task.splits ?? {}).map(([name, from], at) => [
      at === 0 ? 'sets' : '',
      `${name}: ${from.join(', ')}`,
    ]),
    ['examples', task.numExamples === undefined ? 'not prepared yet: exmix prepare' : formatNumber(task.numExamples)],
    ...(task.prepared === undefined ? [] : [['prepared', JSON.stringify(task.prepared)]]),
  ];
  const head = facts.map(([name, value]) => `${name!.padEnd(9)} ${value!}\n`).join('');
  const samples = task.samples.map(
    ({ inputs, targets }) => `\n  inputs:  ${inputs}\n${targets === '' ? '' : `  targets: ${targets}\n`}`,
  );
  return head + samples.join('');
}
