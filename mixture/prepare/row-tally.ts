/** Counts the rows of one task and keeps the first malformed ones; decides whether there are too many. */
import { TrainerError } from '../../shared/errors.ts';
import type { TaskManifest } from './manifest.ts';

/** Malformed rows that are shown. */
const NUM_SHOWN = 5;

/** A source of which more than half is malformed after this many rows is given up: it is the wrong file or format. */
const EARLY_ROWS = 10_000;

export class RowTally {
  readonly #task: string;
  readonly #badRowThreshold: number;
  #numRows = 0;
  #numMalformed = 0;
  readonly #first: TaskManifest['malformed']['first'] = [];

  /** @param badRowThreshold largest share of malformed rows, of all rows of the task */
  constructor(task: string, badRowThreshold: number) {
    this.#task = task;
    this.#badRowThreshold = badRowThreshold;
  }

  addGood(): void {
    this.#numRows += 1;
  }

  addMalformed(file: string, line: number, reason: string, lines = 1): void {
    this.#numRows += lines;
    this.#numMalformed += lines;
    if (this.#first.length < NUM_SHOWN) this.#first.push({ file, line, reason: reason.slice(0, 300) });
  }

  /** @throws SOURCE_MALFORMED where it is no use to read on */
  checkEarly(): void {
    if (this.#numRows >= EARLY_ROWS && this.#numMalformed > this.#numRows / 2)
      checkRows(this.#task, this.counts(), this.#badRowThreshold);
  }

  counts(): Pick<TaskManifest, 'numRows' | 'malformed'> {
    return { numRows: this.#numRows, malformed: { numRows: this.#numMalformed, first: [...this.#first] } };
  }
}

/** @throws SOURCE_MALFORMED where more rows are malformed than the threshold allows, or there are no rows at all */
export function checkRows(
  task: string,
  { numRows, malformed }: Pick<TaskManifest, 'numRows' | 'malformed'>,
  badRowThreshold: number,
): void {
  if (numRows === 0)
    throw new TrainerError('SOURCE_MALFORMED', `task ${task}: the source has no rows; give it some or remove the task`);
  if (malformed.numRows <= badRowThreshold * numRows) return;
  const percent = (share: number) => `${Number((100 * share).toPrecision(3))}%`;
  const shown = malformed.first.map(({ file, line, reason }) => `\n  ${file}:${line}: ${reason}`);
  throw new TrainerError(
    'SOURCE_MALFORMED',
    `task ${task}: ${malformed.numRows} of ${numRows} rows are malformed (${percent(malformed.numRows / numRows)}), ` +
      `at most ${percent(badRowThreshold)} may be; correct them or raise the threshold. The first:${shown.join('')}`,
  );
}
