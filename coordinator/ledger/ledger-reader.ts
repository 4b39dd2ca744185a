/**
 * Reads the ledger of a run, finished or under way; changes nothing. Where a later session repeated a step, the journal decides which
 * record counts (run-history.ts).
 */
import { basename } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import { expectRun, runPaths } from '../run-folder/run-folder.ts';
import { readRunHistory, type RunHistory } from './run-history.ts';
import { listKeptSegments, readSegmentBytes, readSegmentHeader, type SegmentFile } from './segment-files.ts';
import { parseSegment, type ParsedSegment, type SegmentHeader } from './segment-format.ts';
import { decodeStep, type LedgerStep } from './step-record.ts';

/** A step and its segment. */
export interface RecordedStep extends LedgerStep {
  readonly epoch: number;
  readonly segment: string;
  readonly header: SegmentHeader;
}

export interface StepRange {
  /** First and last step. */
  readonly from: number;
  readonly to: number;
}

interface ReadableSegment extends SegmentFile {
  readonly header: SegmentHeader;
}

export class LedgerReader {
  readonly runFolder: string;
  readonly history: RunHistory;
  readonly #segments: readonly ReadableSegment[];

  private constructor(runFolder: string, history: RunHistory, segments: readonly ReadableSegment[]) {
    this.runFolder = runFolder;
    this.history = history;
    this.#segments = segments;
  }

  /** @throws PATH_UNUSABLE where the folder holds no run, or a run without a ledger; JOURNAL_CORRUPT, LEDGER_CORRUPT */
  static async open(runFolder: string): Promise<LedgerReader> {
    const paths = runPaths(runFolder);
    await expectRun(runFolder);
    // The journal first: every step that it holds now is in the segments read after it.
    const history = await readRunHistory(paths.journal);
    const files = await listKeptSegments(paths);
    const segments: ReadableSegment[] = [];
    for (const file of files) {
      const header = await readSegmentHeader(file.path);
      if (typeof header === 'string') throw damaged(file.path, header);
      segments.push({ ...file, header });
    }
    return new LedgerReader(paths.folder, history, segments);
  }

  /** Of the newest segment, with names and sizes of the tasks. */
  get newestHeader(): SegmentHeader {
    return this.#segments.at(-1)!.header;
  }

  /**
   * The steps of a range in order, each in the record that counts; rows are decoded on demand.
   * @throws LEDGER_CORRUPT where a step is missing or damaged
   */
  async *steps({ from, to }: StepRange): AsyncGenerator<RecordedStep> {
    let next = from;
    for (const { epoch, startStep, keptStep } of this.history.sessions) {
      if (keptStep < next || startStep >= to) continue;
      const end = Math.min(to, keptStep);
      const own = this.#segments.filter(({ header }) => header.epoch === epoch && header.firstStep <= end);
      for (const [i, segment] of own.entries()) {
        if ((own[i + 1]?.header.firstStep ?? Infinity) <= next) continue;
        for (const step of await readSteps(segment)) {
          if (step.step > end) break;
          if (step.step < next) continue;
          if (step.step > next) throw missing(this.runFolder, next, epoch);
          yield step;
          next += 1;
        }
      }
      if (next <= end) throw missing(this.runFolder, next, epoch);
    }
    if (next <= to) throw new TrainerError('LEDGER_CORRUPT', `${this.runFolder}: step ${next} was never committed`);
  }

  /** @throws CONFIG_INVALID where the run has not committed that step, LEDGER_CORRUPT */
  async step(step: number): Promise<RecordedStep> {
    this.checkStep(step);
    for await (const found of this.steps({ from: step, to: step })) return found;
    throw missing(this.runFolder, step, 0);
  }

  /** @throws CONFIG_INVALID */
  checkStep(step: number): void {
    if (this.history.hasStep(step)) return;
    const { firstStep, lastStep } = this.history;
    throw new TrainerError(
      'CONFIG_INVALID',
      `--step: expected a step that ${this.runFolder} has committed, ${firstStep} to ${lastStep}, got ${step}`,
    );
  }
}

/** The records of a segment before any damage. @throws LEDGER_CORRUPT for an invalid header or payload */
async function readSteps({ path }: SegmentFile): Promise<Iterable<RecordedStep>> {
  const segment = parseSegment(await readSegmentBytes(path));
  if (typeof segment === 'string') throw damaged(path, segment);
  return decodeSteps(path, segment);
}

/** Decodes the records of a segment in order, rows on demand. @throws LEDGER_CORRUPT for an invalid payload */
export function* decodeSteps(path: string, { header, records }: ParsedSegment): Generator<RecordedStep> {
  for (const { payload } of records)
    yield { ...decodeStep(payload, header.tasks.length), epoch: header.epoch, segment: basename(path), header };
}

function damaged(path: string, reason: string): TrainerError {
  return new TrainerError('LEDGER_CORRUPT', `${path}: ${reason}; exmix ledger audit lists all damage`);
}

function missing(runFolder: string, step: number, epoch: number): TrainerError {
  return new TrainerError(
    'LEDGER_CORRUPT',
    `${runFolder}: step ${step} was committed in epoch ${epoch} and is not in the ledger; exmix ledger audit lists all missing steps`,
  );
}
