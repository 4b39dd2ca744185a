/**
 * Writes the ledger of one session: a record for each committed step, on disk before the journal says that the step is committed. So
 * after a crash at any moment every committed step is in the ledger; at most the next one is there too, and repair-ledger.ts cuts it off.
 *
 * Assumes one writer (the lock of the run folder), steps in order without a gap, one append at a time, and a disk that keeps what fsync
 * reported. A segment is opened with the first step that goes into it, and sealed when it is full or the session ends.
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdir, open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder, toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
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
}

interface OpenSegment {
  readonly path: string;
  readonly file: FileHandle;
  readonly encoder: StepEncoder;
  readonly hash: Hash;
  bytes: number;
  numRecords: number;
}

export class LedgerWriter {
  readonly #init: Omit<LedgerWriterInit, 'committed'>;
  /** Number and SHA-256 of the newest sealed segment. */
  #newest: number;
  #previous: string | null;
  #bases: readonly number[];
  #step: number;
  #segment: OpenSegment | undefined;
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
   * @returns resolves when the record is on disk
   * @throws DISK_FULL, PATH_UNUSABLE: then nothing more can be added, and the file ends with the last step that was acknowledged
   */
  async append(step: StepToRecord, floors: readonly number[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    assertInvariant(step.step === this.#step + 1, `step ${step.step} recorded after step ${this.#step}`);
    const isNew = this.#segment === undefined;
    const segment = this.#segment ?? (await this.#begin(step.step));
    this.#segment = segment;
    try {
      await this.#write(segment, encodeFrame(segment.encoder.encode(step, floors)));
      if (isNew) await syncFolder(this.#init.folder);
    } catch (error) {
      this.#failure = toStorageError(error, 'append to', segment.path);
      await segment.file.truncate(segment.bytes).catch(() => undefined); // else the next session cuts it off
      throw this.#failure;
    }
    segment.numRecords += 1;
    this.#step = step.step;
    if (segment.bytes >= SEGMENT_BYTES) await this.#seal(segment);
  }

  /** Seals the open segment; later appends fail. @throws DISK_FULL, PATH_UNUSABLE where the seal could not be written */
  async close(): Promise<void> {
    const segment = this.#segment;
    const hasFailed = this.#failure !== undefined;
    this.#failure ??= new TrainerError('INTERNAL', `${this.#init.folder} is closed`);
    if (segment === undefined) return;
    if (hasFailed) await segment.file.close();
    else await this.#seal(segment);
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
    try {
      const file = await open(path, 'wx');
      const encoder = new StepEncoder({ seed, tasks, bases: this.#bases });
      const segment = { path, file, encoder, hash: createHash('sha256'), bytes: 0, numRecords: 0 };
      await this.#write(segment, encodeHeader(header));
      return segment;
    } catch (error) {
      this.#failure = toStorageError(error, 'begin', path);
      throw this.#failure;
    }
  }

  async #write(segment: OpenSegment, bytes: Buffer): Promise<void> {
    await segment.file.appendFile(bytes);
    await segment.file.datasync();
    segment.hash.update(bytes);
    segment.bytes += bytes.length;
  }

  async #seal(segment: OpenSegment): Promise<void> {
    this.#segment = undefined;
    try {
      const seal = encodeSeal(segment.numRecords, segment.hash.copy().digest());
      await this.#write(segment, seal);
      await segment.file.close();
    } catch (error) {
      this.#failure = toStorageError(error, 'seal', segment.path);
      throw this.#failure;
    }
    this.#newest += 1;
    this.#previous = segment.hash.digest('hex');
    this.#bases = segment.encoder.bases;
  }
}
