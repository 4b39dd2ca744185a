/** Prints the built-in table of ExMix tasks as text or JSON. */
import { printSource, type ExmixDescription } from '../mixture/tasks/exmix/describe-exmix.ts';
import { madeUpExample } from '../mixture/tasks/exmix/made-up-rows.ts';
import { formatNumber, formatTable } from './text-table.ts';

/** Width of the largest size (C4). Padding aligns the sizes, though estimates have a `~`. */
const COUNT_WIDTH = '364,868,892'.length;

export function printExmixTasks(tasks: readonly ExmixDescription[], asJson: boolean): string {
  if (asJson) return `${JSON.stringify(tasks)}\n`;
  const rows = tasks.map((task) => [
    task.name,
    task.family,
    task.source.kind === 'hub' ? task.source.dataset : `bring ${task.source.file}`,
    `${task.isSizeEstimated ? '~' : ''}${formatNumber(task.numExamples)}`.padStart(COUNT_WIDTH),
    100 * task.overallRate,
    task.confidence,
  ]);
  const numGiven = tasks.filter(({ source }) => source.kind === 'given').length;
  return (
    formatTable(['task', 'family', 'source', 'examples', '% of draws', 'sure'], rows) +
    `${tasks.length} tasks of ExMix at the paper's rates (K = 300,000, R = 2); ${numGiven} need a file from you: exmix tasks show NAME\n`
  );
}

/** How predictions of the task are judged, and on which sets. */
function judgementFacts({ evaluation, splits, splitConfidence }: ExmixDescription): (readonly [string, string])[] {
  if (evaluation === undefined) return [['metrics', '-']];
  const sets = [...splits.validation, ...splits.test].map(
    ({ name, from }, at) => [at === 0 ? 'sets' : '', `${name}: ${from}`] as const,
  );
  return [
    ['metrics', evaluation.metrics.join(', ')],
    ['judged', `by ${evaluation.postprocess.name}`],
    ...sets,
    ['', `sure of the sets: ${splitConfidence}`],
  ];
}

export function printExmixTask(task: ExmixDescription, asJson: boolean): string {
  const example = madeUpExample(task.name);
  // int64 values of made-up rows are plain numbers, so JSON can represent them.
  if (asJson) return `${JSON.stringify({ ...task, madeUpExample: example })}\n`;
  const { template, columns, labels, steps } = task;
  const percent = (share: number) => `${formatNumber(100 * share)} %`;
  const facts: (readonly [string, string])[] = [
    ['task', task.name],
    ['family', `${task.family} (${task.kind})`],
    ['citation', task.citation],
    ['source', printSource(task.source)],
    ...Object.entries(columns).map(([name, type], i) => [i === 0 ? 'columns' : '', `${name}: ${type}`] as const),
    ['inputs', template.inputs],
    ...(template.targets === '' ? [] : [['targets', template.targets] as const]),
    ...(labels.length === 0 ? [] : [['labels', labels.join(', ')] as const]),
    ...steps.map((step, i) => [i === 0 ? 'rule' : '', step] as const),
    ...judgementFacts(task),
    [
      task.kind === 'denoising' ? 'documents' : 'examples',
      `${task.isSizeEstimated ? 'about ' : ''}${formatNumber(task.numExamples)}`,
    ],
    [
      'rate',
      task.kind === 'denoising'
        ? `${percent(task.overallRate)} of all draws`
        : `${percent(task.exmixRate)} of ExMix, ${percent(task.overallRate)} of all draws`,
    ],
    ['sure', task.confidence],
    ['note', task.note],
  ];
  const head = facts.map(([name, value]) => `${name.padEnd(9)} ${value}\n`).join('');
  const targets = example.targets === '' ? '' : `  targets: ${example.targets}\n`;
  return `${head}\na made-up row, and the example made of it:\n  ${JSON.stringify(example.row)}\n  inputs:  ${example.inputs}\n${targets}`;
}
