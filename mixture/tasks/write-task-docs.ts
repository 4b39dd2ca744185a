/**
 * Makes docs/tasks.md from the table: `node --import tsx mixture/tasks/write-task-docs.ts`. A test compares the two.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describeExmix, type DescribedSet, type ExmixDescription } from './exmix/describe-exmix.ts';

export const TASK_DOCS_FILE = fileURLToPath(new URL('../../docs/tasks.md', import.meta.url));

/** The page, formatted as prettier does. */
export function renderTaskDocs(): string {
  const tasks = describeExmix();
  const given = tasks.filter(({ source }) => source.kind === 'given');
  const numHigh = tasks.filter(({ confidence }) => confidence === 'high').length;
  return `# The tasks of ExMix

Generated from the table in [mixture/tasks/exmix](../mixture/tasks/exmix/README.md) by \`node --import tsx mixture/tasks/write-task-docs.ts\`; do not edit.
\`exmix tasks show NAME\` prints one task in full, with a rendered example; \`exmix tasks --json\` prints all tasks in full.

${tasks.length - 1} supervised tasks and C4. The choice of the 107 sets is a reconstruction. For ${numHigh} rows the set, its size and its place agree with
public figures (sure: high). The others are from memory or inferred (low); their notes say so. The rates are those of the paper, K = 300,000 and R = 2.
A size with ~ is an equal share of a known total.

## Sizes and rates

${markdownTable(['task', 'family', 'examples', '% of ExMix', '% of draws', 'sure'], tasks.map(sizeRow), 'llrrrl')}

## Evaluation

A metric and a post-processor have the names of [shared/task-evaluation.ts](../shared/task-evaluation.ts). A set is a split of the hub of that name, or a file to
bring. \`cut\` is a part of train, where there is no such set: training leaves it out. \`rows\` are other rows of the train file. A test split without
labels is left out. The last column says how sure we are of the names: high if they stand in the metadata of
datasets 2.0.0 or in the publisher's repository, low if they are from memory. None was tried against the real hub.

${markdownTable(['task', 'validation', 'test', 'post-processor', 'metrics', 'sure'], tasks.flatMap(evaluationRow), 'llllll')}

## Sources

\`exmix prepare\` reads a set of the hub from the parquet files of its repository, or from the hub's converted branch. It reads the newest revision
of \`main\`, unless the mixture file names another. The manifest holds the commit.

${markdownTable(['task', 'hub', 'config', 'split or files'], tasks.flatMap(hubRow), 'llll')}

## Files to bring

The hub does not have ${given.length} sets. Put each file under this name into a folder, and give the folder with \`--given FOLDER\` or with
\`given: FOLDER\` in the mixture file. Or name the file in \`source:\`.

${markdownTable(['file', 'columns', 'how to make it'], tasks.flatMap(givenRow), 'lll')}

## Templates

\`<unk>\` is T5's target for a row without a label. \`exmix tasks show NAME\` says what fills a placeholder that is not a column.

${markdownTable(['task', 'inputs', 'targets'], tasks.map(templateRow), 'lll')}

## Notes

${markdownTable(
  ['task', 'from', 'note'],
  tasks.map(({ name, citation, note }) => [name, citation, note]),
  'lll',
)}
`;
}

type Row = readonly string[];

const count = (value: number) => value.toLocaleString('en-US');
const percent = (share: number) => (100 * share).toPrecision(3);
const code = (text: string) => (text === '' ? '' : `\`${text}\``);

function sizeRow(task: ExmixDescription): Row {
  const examples = `${task.isSizeEstimated ? '~' : ''}${count(task.numExamples)}`;
  const ofExmix = task.kind === 'denoising' ? '' : percent(task.exmixRate);
  return [task.name, task.family, examples, ofExmix, percent(task.overallRate), task.confidence];
}

function evaluationRow({ name, evaluation, splits, splitConfidence }: ExmixDescription): Row[] {
  if (evaluation === undefined) return [];
  const names = (sets: readonly DescribedSet[]) => sets.map(nameSet).join(', ');
  const { postprocess, metrics } = evaluation;
  return [[name, names(splits.validation), names(splits.test), postprocess.name, metrics.join(', '), splitConfidence]];
}

function nameSet({ name, kind, from }: DescribedSet): string {
  if (kind === 'split') return name;
  return kind === 'given' ? code(from.split(':', 1)[0]!.replace('bring ', '')) : kind;
}

function hubRow({ name, source }: ExmixDescription): Row[] {
  if (source.kind !== 'hub') return [];
  return [
    [
      name,
      source.dataset,
      source.config ?? '',
      source.files === undefined ? source.split : source.files.map(code).join(', '),
    ],
  ];
}

function givenRow({ source, columns }: ExmixDescription): Row[] {
  if (source.kind !== 'given') return [];
  return [[source.file, code(Object.keys(columns).join(', ')), source.how]];
}

function templateRow({ name, template, labels }: ExmixDescription): Row {
  const targets = labels.length > 0 ? labels.map(code).join(', ') : code(template.targets);
  return [name, code(template.inputs), targets];
}

/** A table with aligned columns. @param alignment one letter for each column: l or r */
function markdownTable(head: Row, rows: readonly Row[], alignment: string): string {
  const cells = [head, ...rows].map((row) => row.map(escapeCell));
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column]!.length)));
  const isRight = (column: number) => alignment[column] === 'r';
  const line = (row: Row) =>
    `| ${row.map((cell, column) => (isRight(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join(' | ')} |`;
  const rule = widths.map((width, column) => (isRight(column) ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)));
  return [line(cells[0]!), line(rule), ...cells.slice(1).map(line)].join('\n');
}

/** Escapes marks that would end a cell, or begin emphasis outside of code. */
function escapeCell(text: string): string {
  return text
    .split(/(`[^`]*`)/u)
    .map((part) =>
      part.startsWith('`') ? part.replaceAll('|', '\\|') : part.replaceAll('|', '\\|').replace(/[_*<]/gu, '\\$&'),
    )
    .join('');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(TASK_DOCS_FILE, renderTaskDocs());
