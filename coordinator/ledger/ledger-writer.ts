/**
 * Writes the ledger of one session: the record of each step is on disk before the journal commits the step. So after a crash at any
 * moment the ledger holds every committed step and at most one more, which repair-ledger.ts removes.
 *
 * Assumes one writer (the lock of the run folder), steps in order without a gap, one append at a time, and a disk that keeps the bytes
 * that fsync acknowledged. The first step of a segment creates its file; a full segment or the end of the session seals it. Each write
 * waits for diskSpace while the disk is full, except the seal at the end of the session.
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { PlanCursor } from '../../mixture/plan/plan-cursor.ts';
import { syncFolder, toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { RecordFile, type KeepTrying } from '../run-folder/record-file.ts';
import type { DiskSpace } from '../run-folder/disk-space.ts';
import { repairLedger, type LastCommit } from './repair-ledger.ts';
import { segmentPath } from './segment-files.ts';
import { encodeFrame, encodeHeader, encodeSeal, type SegmentHeader } from './segment-format.ts';
import { encodeStep, type StepToRecord } from './step-record.ts';
import type { LedgerTask } from './task-draws.ts';

/** A segment of this size is sealed: about 80 steps of the paper's batch. */
const SEGMENT_BYTES = 1024 * 1024;

/** The state that a session starts from. */
export interface SessionStart {
  /** Updates already applied. */
  readonly step: number;
  /** Checkpoint that the parameters come from. */
  readonly checkpoint?: string;
  /** Of each task: the lowest draw not handed out at the start of the plan's window; 0 where the run begins. */
  readonly firstDraws: readonly number[];
  /** Whether some draws above `firstDraws` were handed out: the session starts inside a window of the plan. */
  readonly isInsideWindow: boolean;
}

/** @param checkpoint of this step or an earlier one @param numTasks of the mixture, for a run from its beginning */
export function sessionStart(
  start: {
    readonly step: number;
    readonly cursor?: PlanCursor;
    readonly checkpoint?: { readonly step: number; readonly path: string };
  },
  numTasks: number,
): SessionStart {
  const { step, cursor, checkpoint } = start;
  return {
    step,
    firstDraws: cursor === undefined ? new Array<number>(numTasks).fill(0) : lowestDraws(cursor),
    isInsideWindow: cursor !== undefined && (cursor.row > 0 || cursor.pending.some((owed) => owed.length > 0)),
    ...(checkpoint?.step === step ? { checkpoint: checkpoint.path } : {}),
  };
}

/** Of each task, the lowest draw not handed out at the start of the cursor's window. */
function lowestDraws({ drawn, pending }: PlanCursor): number[] {
  return drawn.map((next, task) => pending[task]!.reduce((a, b) => Math.min(a, b), next));
}

export interface LedgerWriterInit {
  readonly folder: string;
  /** Of this session. */
  readonly epoch: number;
  readonly seed: number;
  readonly mixtureHash: string;
  /** In the order of the mixture. */
  readonly tasks: readonly LedgerTask[];
  readonly start: SessionStart;
  readonly committed: LastCommit;
  /** Makes appends wait on a full disk; without it, a full disk fails the append. */
  readonly diskSpace?: DiskSpace;
}

interface OpenSegment {
  readonly file: RecordFile;
  /** Of the whole file. */
  readonly hash: Hash;
  numRecords: number;
}

export class LedgerWriter {
  readonly #init: Omit<LedgerWriterInit, 'committed'>;
  readonly #closing = new AbortController();
  /** Number and SHA-256 of the newest sealed segment. */
  #newest: number;
  #previous: string | null;
  #step: number;
  #segment: OpenSegment | undefined;
  #appending: Promise<void> | undefined;
  #failure: TrainerError | undefined;

  private constructor(init: LedgerWriterInit, newest: number, previous: string | null) {
    this.#init = init;
    this.#newest = newest;
    this.#previous = previous;
    this.#step = init.start.step;
  }

  /**
   * Opens the ledger of a run, or creates it; repairs the end that a killed session left.
   * @returns notes on the repair, to log
   * @throws PATH_UNUSABLE, DISK_FULL; LEDGER_CORRUPT for a ledger of an older format
   */
  static async open(init: LedgerWriterInit): Promise<{ ledger: LedgerWriter; notes: readonly string[] }> {
    const { folder, committed } = init;
    try {
      await mkdir(folder, { recursive: true });
    } catch (error) {
      throw toStorageError(error, 'make', folder);
    }
    await syncFolder(dirname(folder));
    const { newest, sha256, notes } = await repairLedger(folder, committed);
    return { ledger: new LedgerWriter(init, newest, sha256), notes };
  }

  /**
   * Appends a step. Await it before the step's commit is journalled.
   * @returns resolves when the record is on disk; on a full disk, when there is diskSpace again
   * @throws DISK_FULL (without `room`, or after `close`), PATH_UNUSABLE: then every later append fails too, and the file ends with the
   *   last acknowledged step; INTERNAL for a step out of order
   */
  async append(step: StepToRecord): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing.signal.aborted) throw this.#isClosed();
    assertInvariant(this.#appending === undefined, `step ${step.step} recorded while another one is`);
    assertInvariant(step.step === this.#step + 1, `step ${step.step} recorded after step ${this.#step}`);
    this.#appending = this.#append(step);
    try {
      await this.#appending;
    } catch (error) {
      this.#failure = toStorageError(error, 'record a step in', this.#init.folder);
      throw this.#failure;
    } finally {
      this.#appending = undefined;
    }
  }

  /**
   * Seals the open segment, without waiting for room; later appends fail.
   * @throws DISK_FULL, PATH_UNUSABLE where the seal could not be written: the next session seals the segment then
   */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#appending?.catch(() => undefined);
    const segment = this.#segment;
    const hasFailed = this.#failure !== undefined;
    this.#failure ??= this.#isClosed();
    this.#segment = undefined;
    if (segment === undefined) return;
    if (hasFailed) await segment.file.close();
    else await this.#seal(segment);
  }

  #isClosed(): TrainerError {
    return new TrainerError('INTERNAL', `${this.#init.folder} is closed`);
  }

  readonly #keepTrying: KeepTrying = (attempt) =>
    this.#init.diskSpace?.keepTrying(attempt, this.#closing.signal) ?? attempt();

  async #append(step: StepToRecord): Promise<void> {
    const segment = this.#segment ?? (await this.#begin(step.step));
    this.#segment = segment;
    const frame = encodeFrame(encodeStep(step));
    await segment.file.append(frame);
    segment.hash.update(frame);
    segment.numRecords += 1;
    this.#step = step.step;
    if (segment.file.bytes >= SEGMENT_BYTES) await this.#seal(segment);
  }

  async #begin(firstStep: number): Promise<OpenSegment> {
    const { folder, epoch, seed, mixtureHash, tasks, start } = this.#init;
    const number = this.#newest + 1;
    const header: SegmentHeader = {
      segment: number,
      epoch,
      firstStep,
      seed,
      mixtureHash,
      tasks: tasks.map(({ name, numExamples }) => [name, numExamples]),
      from: { checkpoint: null, ...start, firstDraws: [...start.firstDraws] },
      previous: this.#previous,
    };
    const path = segmentPath(folder, number);
    const bytes = encodeHeader(header);
    const handle = await this.#keepTrying(() => makeSegment(path, bytes));
    const file = new RecordFile({ path, handle, bytes: bytes.length, keepTrying: this.#keepTrying });
    return { file, hash: createHash('sha256').update(bytes), numRecords: 0 };
  }

  async #seal(segment: OpenSegment): Promise<void> {
    this.#segment = undefined;
    const seal = encodeSeal(segment.numRecords, segment.hash.copy().digest());
    try {
      await segment.file.append(seal);
    } finally {
      await segment.file.close();
    }
    this.#newest += 1;
    this.#previous = segment.hash.update(seal).digest('hex');
  }
}

/** Creates a segment with its header on disk, or leaves no file: a reader finds no segment without a header. */
async function makeSegment(path: string, header: Buffer): Promise<FileHandle> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'ax');
    await file.appendFile(header);
    await file.datasync();
    await syncFolder(dirname(path));
    return file;
  } catch (error) {
    await file?.close();
    if (file !== undefined) await rm(path, { force: true }).catch(() => undefined);
    throw toStorageError(error, 'begin', path);
  }
}
