/** Counts the rows of a unit by their result, and decides whether a task has too many malformed rows. */
import { TrainerError } from '../../shared/errors.ts';
import { addKind, listKinds, NUM_SHOWN_ROWS, type UnitCounts } from './unit-counts.ts';

/** A unit is given up if more than half of its rows are malformed after this many rows: its file or format is wrong. */
const EARLY_ROWS = 10_000;
/** Characters of a reason that are kept. */
const MAX_REASON_LENGTH = 300;
const MAX_KIND_LENGTH = 120;
const OTHER_ENCODING = 'If a file is in another encoding, convert it: iconv -f WINDOWS-1252 -t UTF-8.';

type RowCounts = Pick<UnitCounts, 'rows' | 'malformedKinds' | 'malformedFirst'>;

export class RowTally {
  readonly #task: string;
  #withExamples = 0;
  #leftOut = 0;
  #malformed = 0;
  #heldOut: number | undefined;
  readonly #kinds = new Map<string, number>();
  readonly #first: UnitCounts['malformedFirst'] = [];

  /** @param hasCut whether records are held out for evaluation */
  constructor(task: string, hasCut = false) {
    this.#task = task;
    if (hasCut) this.#heldOut = 0;
  }

  get numRows(): number {
    return this.#withExamples + this.#leftOut + this.#malformed + (this.#heldOut ?? 0);
  }

  addWithExamples(): void {
    this.#withExamples += 1;
  }

  addLeftOut(): void {
    this.#leftOut += 1;
  }

  addHeldOut(): void {
    this.#heldOut = (this.#heldOut ?? 0) + 1;
  }

  /** @param rows how many rows this record spans: an unclosed quote spans several */
  addMalformed(file: string, row: number, reason: string, rows = 1): void {
    this.#malformed += rows;
    addKind(this.#kinds, kindOf(reason), rows);
    if (this.#first.length < NUM_SHOWN_ROWS)
      this.#first.push({ file, row, reason: reason.slice(0, MAX_REASON_LENGTH) });
  }

  /** @throws SOURCE_MALFORMED if reading on is useless */
  checkEarly(): void {
    if (this.numRows >= EARLY_ROWS && this.#malformed > this.numRows / 2)
      throw tooManyMalformed(this.#task, this.counts(), 0.5);
  }

  counts(): RowCounts {
    return {
      rows: {
        read: this.numRows,
        withExamples: this.#withExamples,
        leftOut: this.#leftOut,
        malformed: this.#malformed,
        ...(this.#heldOut === undefined ? {} : { heldOut: this.#heldOut }),
      },
      malformedKinds: listKinds(this.#kinds),
      malformedFirst: [...this.#first],
    };
  }
}

/** The kind of a reason: names of fields and encodings stay; numbers, quoted text and what follows it are removed. */
export function kindOf(reason: string): string {
  const kind = reason
    .replace(/;.*$/su, '')
    .replace(/"[^"]*"(?! (?:is missing|must be)).*$/su, '"…"')
    .replace(/UTF-\d+|\d[\d,.]*/gu, (text) => (text.startsWith('UTF') ? text : '#'));
  return kind.slice(0, MAX_KIND_LENGTH);
}

/** @throws SOURCE_MALFORMED if more rows are malformed than the threshold allows, or if there are no rows */
export function checkRows(task: string, counts: RowCounts, badRowThreshold: number): void {
  const { read, malformed } = counts.rows;
  if (read === 0)
    throw new TrainerError('SOURCE_MALFORMED', `task ${task}: the source has no rows; add rows or remove the task`);
  if (malformed > badRowThreshold * read) throw tooManyMalformed(task, counts, badRowThreshold);
}

function tooManyMalformed(
  task: string,
  { rows, malformedFirst, malformedKinds }: RowCounts,
  allowed: number,
): TrainerError {
  const percent = (share: number) => `${Number((100 * share).toPrecision(3))}%`;
  const shown = malformedFirst.map(({ file, row, reason }) => `\n  ${file}:${row}: ${reason}`);
  const kinds = malformedKinds.map(({ reason, rows: ofKind }) => `${ofKind} × ${reason}`).join('; ');
  const isEncoding = malformedKinds.some(({ reason }) => reason.includes('not valid UTF-8'));
  return new TrainerError(
    'SOURCE_MALFORMED',
    `task ${task}: ${rows.malformed} of ${rows.read} rows are malformed (${percent(rows.malformed / rows.read)}), ` +
      `at most ${percent(allowed)} may be; correct them or raise the threshold. ` +
      (isEncoding ? `${OTHER_ENCODING} ` : '') +
      `${kinds}. The first:${shown.join('')}`,
  );
}
