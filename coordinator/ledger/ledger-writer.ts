/**
 * Writes the ledger of one session: a record for each committed step, on disk before the journal says that the step is committed. So
 * after a crash at any moment every committed step is in the ledger; at most the next one is there too, and repair-ledger.ts cuts it off.
 *
 * Assumes one writer (the lock of the run folder), steps in order without a gap, one append at a time, and a disk that keeps what fsync
 * reported. A segment is opened with the first step that goes into it, and sealed when it is full or the session ends. Each of these
 * waits for room while the disk is full.
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder, toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { RecordFile, type KeepTrying } from '../run-folder/record-file.ts';
import type { RoomOnDisk } from '../run-folder/room-on-disk.ts';
import type { DrawTask } from './draw-numbers.ts';
import type { StepToRecord } from './ledger-step.ts';
import { repairLedger, type LastCommit } from './repair-ledger.ts';
import { segmentPath } from './segment-files.ts';
import { encodeFrame, encodeHeader, encodeSeal, type SegmentHeader } from './segment-format.ts';
import { StepEncoder } from './step-codec.ts';

/** A segment that has reached this is sealed: about 200 steps of the paper's batch, decoded in well under a second. */
const SEGMENT_BYTES = 1024 * 1024;

/** What a session starts from. */
export interface SessionStart {
  /** Updates already applied. */
  readonly step: number;
  /** Checkpoint that the parameters come from. */
  readonly checkpoint?: string;
  /** Of each task: all draws below are over; 0 for all where the run begins. */
  readonly bases: readonly number[];
  /** Whether draws above the bases are over too: the run goes on inside a window of its plan. */
  readonly isInsideWindow: boolean;
}

export interface LedgerWriterInit {
  readonly folder: string;
  /** Of the session that is to write. */
  readonly epoch: number;
  readonly seed: number;
  readonly mixtureHash: string;
  /** In the order of the mixture. */
  readonly tasks: readonly DrawTask[];
  readonly start: SessionStart;
  readonly committed: LastCommit;
  /** Where a full disk is to be waited for; else it is a failure like any other. */
  readonly room?: RoomOnDisk;
}

interface OpenSegment {
  readonly file: RecordFile;
  readonly encoder: StepEncoder;
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
  #bases: readonly number[];
  #step: number;
  #segment: OpenSegment | undefined;
  #appending: Promise<void> | undefined;
  #failure: TrainerError | undefined;

  private constructor(init: LedgerWriterInit, newest: number, previous: string | null) {
    this.#init = init;
    this.#newest = newest;
    this.#previous = previous;
    this.#bases = init.start.bases;
    this.#step = init.start.step;
  }

  /**
   * Opens the ledger of a run, or begins one; what a killed session left is put in order.
   * @returns the notes say what was cut off: to be logged
   * @throws PATH_UNUSABLE, DISK_FULL
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
   * Adds a step; to be awaited before its commit is journalled.
   * @param floors of each task: no draw below is expected after this step; only makes later records shorter
   * @returns resolves when the record is on disk; with a full disk that is when there is room again
   * @throws DISK_FULL (where it is not waited for, or no longer), PATH_UNUSABLE: then nothing more can be added, and the file ends with
   *   the last step that was acknowledged; INTERNAL for a step out of order
   */
  async append(step: StepToRecord, floors: readonly number[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing.signal.aborted) throw this.#isClosed();
    assertInvariant(this.#appending === undefined, `step ${step.step} recorded while another one is`);
    assertInvariant(step.step === this.#step + 1, `step ${step.step} recorded after step ${this.#step}`);
    this.#appending = this.#append(step, floors);
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
   * @throws DISK_FULL, PATH_UNUSABLE where the seal could not be written: the next session does it
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
    this.#init.room?.keepTrying(attempt, this.#closing.signal) ?? attempt();

  async #append(step: StepToRecord, floors: readonly number[]): Promise<void> {
    const segment = this.#segment ?? (await this.#begin(step.step));
    this.#segment = segment;
    const frame = encodeFrame(segment.encoder.encode(step, floors));
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
      bases: [...this.#bases],
      from: { step: start.step, checkpoint: start.checkpoint ?? null, isInsideWindow: start.isInsideWindow },
      previous: this.#previous,
    };
    const path = segmentPath(folder, number);
    const bytes = encodeHeader(header);
    const handle = await this.#keepTrying(() => makeSegment(path, bytes));
    const file = new RecordFile({ path, handle, bytes: bytes.length, keepTrying: this.#keepTrying });
    const encoder = new StepEncoder({ seed, tasks, bases: this.#bases });
    return { file, encoder, hash: createHash('sha256').update(bytes), numRecords: 0 };
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
    this.#bases = segment.encoder.bases;
  }
}

/** A new segment with its header, on disk under its name, or none: a reader does not find one that is only begun. */
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
