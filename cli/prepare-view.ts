/** Output of `exmix prepare`: a live table on a terminal, plain lines elsewhere, and the result of each task. Pure except for `write`. */
import type { AbsentSet } from '../mixture/evaluation-sets/declared-sets.ts';
import type { PreparedSet } from '../mixture/evaluation-sets/prepare-evaluation-sets.ts';
import type { PrepareOutlook } from '../mixture/prepare/prepare-outlook.ts';
import type { PrepareSnapshot, TaskSnapshot } from '../mixture/prepare/prepare-progress.ts';
import type { PreparedTaskReport, PrepareReport } from '../mixture/prepare/prepare-mixture.ts';
import { formatSeconds } from './console-reporter.ts';
import { formatNumber, formatTable } from './text-table.ts';
import { listNames } from '../shared/list-names.ts';

/** Between two plain progress lines. */
const LINE_INTERVAL_MS = 5_000;
/** Rows of the live table. */
const MAX_LIVE_TASKS = 12;
/** Kinds of malformed rows that are printed for one task. */
const MAX_KINDS = 5;

export interface ViewInit {
  readonly write: (text: string) => void;
  readonly isTerminal: boolean;
  readonly nowMs: () => number;
}

/** Prints permanent lines, and below them progress that is redrawn. */
export class PrepareView {
  readonly #init: ViewInit;
  /** Lines of the live table on the screen now. */
  #numLive = 0;
  #lastLineMs: number;

  constructor(init: ViewInit) {
    this.#init = init;
    this.#lastLineMs = init.nowMs();
  }

  /** Prints a permanent line. */
  line(text: string): void {
    this.clear();
    this.#init.write(text);
  }

  progress(snapshot: PrepareSnapshot): void {
    const { write, isTerminal, nowMs } = this.#init;
    if (isTerminal) {
      const text = formatLiveTable(snapshot);
      this.clear();
      write(text);
      this.#numLive = text.split('\n').length - 1;
      return;
    }
    if (nowMs() - this.#lastLineMs < LINE_INTERVAL_MS) return;
    this.#lastLineMs = nowMs();
    write(formatProgressLine(snapshot));
  }

  /** Erases the live table. */
  clear(): void {
    if (this.#numLive > 0) this.#init.write(`\u001b[${this.#numLive}A\u001b[0J`);
    this.#numLive = 0;
  }
}

const HEAD = ['task', 'units', 'read', 'rows', 'examples', 'tokens', 'tokens/s', 'left'];

export function formatLiveTable({ tasks, total }: PrepareSnapshot): string {
  const running = tasks.filter(({ state }) => state === 'running').slice(0, MAX_LIVE_TASKS);
  const count = (state: TaskSnapshot['state']) => tasks.filter((task) => task.state === state).length;
  const failed = count('failed') === 0 ? '' : `, ${count('failed')} failed`;
  const head = `${count('done')} of ${tasks.length} tasks done${failed}`;
  return formatTable(HEAD, [...running.map(rowOf), [head, ...rowOf(total).slice(1)]]);
}

function formatProgressLine({ tasks, total }: PrepareSnapshot): string {
  const running = tasks.filter(({ state }) => state === 'running').map(({ name }) => name);
  const [, units, read, rows, , tokens, speed, left] = rowOf(total);
  return `  ${read} of the sources read, ${units} units, ${rows} rows, ${tokens} tokens, ${speed} tokens/s, ${left} left: ${listNames(running, { most: 3 })}\n`;
}

function rowOf(task: TaskSnapshot): string[] {
  const percent = task.numBytes === 0 ? 100 : Math.floor((100 * task.bytesDone) / task.numBytes);
  return [
    task.name,
    `${formatNumber(task.unitsDone)}/${formatNumber(task.numUnits)}`,
    `${percent}%`,
    formatNumber(task.numRows),
    formatNumber(task.numExamples),
    formatNumber(task.numTokens),
    task.tokensPerSecond === undefined ? '-' : formatNumber(Math.round(task.tokensPerSecond)),
    task.secondsLeft === undefined ? '-' : formatSeconds(Math.ceil(task.secondsLeft)),
  ];
}

/** Describes one finished task: its counts, and the rows that were left out with the reasons. */
export function describeTask({ name, outcome, reason, manifest, unitsMade, unitsKept }: PreparedTaskReport): string {
  const { truncated, malformed, leftOutRows, droppedTokens, numExamples, numTokens } = manifest;
  const facts = [`${formatNumber(numExamples)} examples`, `${formatNumber(numTokens)} tokens`];
  const addFact = (count: number, what: string): void => {
    if (count > 0) facts.push(`${formatNumber(count)} ${what}`);
  };
  if (unitsMade > 0) addFact(unitsKept, `of ${formatNumber(unitsKept + unitsMade)} units kept`);
  addFact(truncated.inputs, 'inputs truncated');
  addFact(truncated.targets, 'targets truncated');
  addFact(leftOutRows, 'rows left out by the preprocessor');
  addFact(droppedTokens.longDocuments, 'tokens of long documents dropped');
  addFact(droppedTokens.remainder, 'tokens after the last segment dropped');
  addFact(malformed.numRows, 'malformed rows left out, the first:');
  const shown = malformed.first.map(({ file, row, reason: why }) => `    ${file}:${row}: ${why}\n`).join('');
  const kinds = malformed.kinds
    .slice(0, MAX_KINDS)
    .map((kind) => `    ${formatNumber(kind.rows)} × ${kind.reason}\n`)
    .join('');
  const why = reason === undefined ? '' : ` (${reason})`;
  return `  ${outcome} ${name}: ${facts.join(', ')}${why}\n${shown}${malformed.kinds.length > 1 ? kinds : ''}`;
}

/** Describes one finished evaluation set, without indent and line end. */
export function describeSet({ info, outcome }: PreparedSet): string {
  const { task, name, numExamples, numAvailable, numCutInputs, numCutTargets, numMalformedRows, cut } = info;
  const isPart = numAvailable === undefined || numAvailable > numExamples;
  const of = numAvailable === undefined ? 'the first ' : `${formatNumber(numAvailable)} examples, a sample of `;
  const facts = [`${isPart ? of : ''}${formatNumber(numExamples)} examples`];
  if (cut !== undefined) facts.push(`1 of ${formatNumber(cut)} records of train`);
  if (numCutInputs > 0) facts.push(`${formatNumber(numCutInputs)} inputs truncated`);
  if (numCutTargets > 0) facts.push(`${formatNumber(numCutTargets)} targets truncated`);
  if (numMalformedRows > 0) facts.push(`${formatNumber(numMalformedRows)} malformed rows left out`);
  return `${outcome} evaluation set ${task}/${name}: ${facts.join(', ')}`;
}

export function describeAbsent({ task, name, reason }: AbsentSet): string {
  return `no evaluation set ${task}/${name}: ${reason}`;
}

/** Sums over the tasks, and how the rows add up. */
export function describeTotals({ tasks }: Pick<PrepareReport, 'tasks'>): string {
  const sum = (pick: (manifest: PreparedTaskReport['manifest']) => number) =>
    formatNumber(tasks.reduce((total, { manifest }) => total + pick(manifest), 0));
  const withExamples = sum(({ numRows, leftOutRows, malformed }) => numRows - leftOutRows - malformed.numRows);
  const rows = `${sum(({ numRows }) => numRows)} rows = ${withExamples} that gave examples + ${sum(({ leftOutRows }) => leftOutRows)} left out + ${sum(({ malformed }) => malformed.numRows)} malformed`;
  return `${tasks.length} tasks, ${sum(({ numExamples }) => numExamples)} examples, ${sum(({ numTokens }) => numTokens)} tokens; ${rows}\n`;
}

export function formatOutlook({ folder, tasks, roomBytes, freeBytes }: PrepareOutlook): string {
  const rows = tasks.map((task) => [
    task.name,
    task.format,
    task.numFiles,
    formatBytes(task.sourceBytes),
    `${formatNumber(task.unitsToMake)} of ${formatNumber(task.numUnits)}`,
    formatBytes(task.roomBytes),
    task.reason ?? '',
  ]);
  const table = formatTable(['task', 'format', 'files', 'source', 'units to make', 'needs about', ''], rows);
  const short = roomBytes > freeBytes ? ': not enough' : '';
  return `${table}needs about ${formatBytes(roomBytes)} in ${folder}, ${formatBytes(freeBytes)} are free${short}\n`;
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${Number(value.toPrecision(3))} ${units[unit]!}`;
}
