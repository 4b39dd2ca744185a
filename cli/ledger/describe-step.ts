/** A recorded step as JSON and as tables. */
import type { RecordedStep } from '../../coordinator/ledger/ledger-reader.ts';
import type { Lanes } from '../../coordinator/ledger/step-record.ts';
import { TaskDraws } from '../../coordinator/ledger/task-draws.ts';
import { formatDigest } from '../../coordinator/step/divergence.ts';
import { visibleText } from '../../shared/visible-text.ts';
import { formatTable } from '../text-table.ts';
import type { ExampleText, ExampleTexts } from './example-texts.ts';

export interface DescribedExample {
  readonly lane: number;
  readonly row: number;
  /** In the row, from 0. */
  readonly place: number;
  readonly task: string;
  /** Pass over the task, from 0. */
  readonly taskEpoch: number;
  readonly index: number;
  /** Number in the order of the task; −1 where the task has no such example. */
  readonly draw: number;
  readonly text?: ExampleText;
}

export interface DescribedStep {
  readonly step: number;
  readonly epoch: number;
  readonly generation: number;
  readonly segment: string;
  /** Nats. */
  readonly loss: number;
  readonly gradDigest: string;
  readonly gradNorm: number;
  readonly learningRate: number;
  readonly lanes: number;
  readonly rows: number;
  readonly tasks: readonly {
    readonly task: string;
    readonly examples: number;
    readonly inputTokens: number;
    readonly targetTokens: number;
    readonly loss: number | null;
  }[];
  readonly examples: readonly DescribedExample[];
}

/** @param only number of the task to show; default: all @param texts decodes the examples @throws LEDGER_CORRUPT */
export async function describeStep(
  recorded: RecordedStep,
  only?: number,
  texts?: ExampleTexts,
): Promise<DescribedStep> {
  const { step, epoch, generation, segment, loss, gradDigest, gradNorm, learningRate, header } = recorded;
  const lanes = recorded.readLanes();
  const nameOf = (task: number): string => header.tasks[task]![0];
  const isShown = (task: number): boolean => only === undefined || task === only;
  const tasks = recorded.tasks
    .filter(({ task }) => isShown(task))
    .map((figures) => ({
      task: nameOf(figures.task),
      examples: figures.numExamples,
      inputTokens: figures.inputTokens,
      targetTokens: figures.targetTokens,
      loss: figures.loss ?? null,
    }));
  const draws = header.tasks.map(([name, numExamples]) => new TaskDraws(header.seed, { name, numExamples }));
  const examples: DescribedExample[] = [];
  for (const { lane, row, place, example } of listExamples(lanes)) {
    if (!isShown(example.task)) continue;
    const { task, index, epoch: taskEpoch } = example;
    const draw = draws[task]!.drawOf(index, taskEpoch) ?? -1;
    const described = { lane, row, place, task: nameOf(task), taskEpoch, index, draw };
    examples.push(texts === undefined ? described : { ...described, text: await texts.textOf(example) });
  }
  const facts = {
    step,
    epoch,
    generation,
    segment,
    loss,
    gradDigest: formatDigest(gradDigest),
    gradNorm,
    learningRate,
  };
  return { ...facts, lanes: lanes.length, rows: lanes.flat().length, tasks, examples };
}

function* listExamples(lanes: Lanes) {
  let row = 0;
  for (const [lane, rows] of lanes.entries())
    for (const examples of rows) {
      for (const [place, example] of examples.entries()) yield { lane, row, place, example };
      row += 1;
    }
}

export function formatStep(described: DescribedStep): string {
  const { step, epoch, generation, segment, loss, gradDigest, gradNorm, learningRate, lanes, rows } = described;
  const head =
    `step ${step} of epoch ${epoch}, generation ${generation} (${segment})\n` +
    (learningRate === 0
      ? 'skipped: its gradient was not finite, no update was applied\n'
      : `loss ${loss.toFixed(4)} nats, gradient ${gradDigest}, norm ${gradNorm.toPrecision(4)}, learning rate ${learningRate.toPrecision(4)}\n`) +
    `${rows} rows in ${lanes} lanes\n\n`;
  const tasks = formatTable(
    ['task', 'examples', 'inputs', 'targets', 'loss'],
    described.tasks.map(({ task, examples, inputTokens, targetTokens, loss: mean }) => [
      task,
      examples,
      inputTokens,
      targetTokens,
      mean?.toFixed(4) ?? '-',
    ]),
  );
  return `${head}${tasks}\n${formatExamples(described.examples)}`;
}

/** One line an example; with texts, inputs and targets below it. */
export function formatExamples(examples: readonly DescribedExample[]): string {
  const columns = ['lane', 'row', 'place', 'task', 'pass', 'example', 'draw'];
  const lines = formatTable(
    columns,
    examples.map(({ lane, row, place, task, taskEpoch, index, draw }) => [
      lane,
      row,
      place,
      task,
      taskEpoch,
      index,
      draw,
    ]),
  );
  if (examples.every(({ text }) => text === undefined)) return lines;
  const [head = '', ...rest] = lines.trimEnd().split('\n');
  const withTexts = rest.map((line, i) => {
    const text = examples[i]?.text;
    if (text === undefined) return line;
    return `${line}\n    inputs:  ${visibleText(text.inputs)}\n    targets: ${visibleText(text.targets)}`;
  });
  return `${[head, ...withTexts].join('\n')}\n`;
}
