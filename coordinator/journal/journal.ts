/**
 * The journal of a run: an append-only file, one record a line, each on disk before anything is built on it.
 *
 *   line = CRC-32 of the rest of the line (8 hex digits) · space · link (32 hex digits) · space · JSON · newline
 *   link = first 16 bytes of the SHA-256 of the line before, its newline left out; zeros in the first line
 *
 * The CRC finds a damaged line. The links find a line that was changed with its CRC, dropped, moved or inserted, but not lines dropped from
 * the end; they have no key. The ledger has a record of each committed step too.
 *
 * `append` resolves after fsync, and each record has its own fsync: a crash or a power cut can tear the last line only. Replay cuts a torn
 * last line off (no caller was told that it is there) and refuses any other damage. While the disk is full a record waits for free space, and
 * later ones wait behind it. Assumes one writer (the lock of the run folder) and a disk that keeps what fsync reported.
 */
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { openToAppend, syncFolder, toStorageError, withRegularFile } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { isTooDeep } from '../../shared/json-keys.ts';
import {
  applyRecord,
  EMPTY_JOURNAL_STATE,
  journalRecordSchema,
  type JournalRecord,
  type JournalState,
} from './journal-records.ts';
import { RecordFile } from '../run-folder/record-file.ts';
import type { DiskSpace } from '../run-folder/disk-space.ts';

const NEWLINE = 0x0a;
/** CRC-32 and its space. */
const CRC_CHARS = 9;
/** Link and its space. */
const LINK_CHARS = 33;
/** The link of the first record. */
export const FIRST_LINK = '0'.repeat(LINK_CHARS - 1);
/** Inside a line it shows that a newline was damaged: the line holds two records and is not merely torn. */
const RECORD_START = /[0-9a-f]{8} [0-9a-f]{32} \{"kind":/;
/** A line of a journal without links, as versions before them wrote it. */
const UNLINKED = /^[0-9a-f]{8} \{"kind":/;
/** A longer line is damage, or not of a journal. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
/** Bound of the appends that wait for the disk. A coordinator awaits its commits, so reaching it is a bug. */
export const MAX_PENDING_RECORDS = 1024;
/** Bound of their bytes, without the record that is being written. */
export const MAX_PENDING_BYTES = 64 * 1024 * 1024;

/** The incomplete last line that was cut off when the journal was opened. */
export interface TornTail {
  /** 1-based. */
  readonly line: number;
  readonly bytes: number;
  readonly reason: string;
}

export interface JournalReplay {
  readonly state: JournalState;
  readonly numRecords: number;
  /** Of the next record. */
  readonly link: string;
  /** Bytes of the whole records; the rest is torn. */
  readonly wholeBytes: number;
  readonly torn?: TornTail;
}

/** One record as it stands in the file, newline included. @param link to the line before, or FIRST_LINK */
export function encodeRecord(record: JournalRecord, link: string): string {
  const rest = `${link} ${JSON.stringify(record)}`;
  return `${crc32(rest).toString(16).padStart(8, '0')} ${rest}\n`;
}

/** The link that the record after a line has. @param line without its newline */
export function linkTo(line: string | Uint8Array): string {
  return createHash('sha256')
    .update(line)
    .digest('hex')
    .slice(0, LINK_CHARS - 1);
}

export interface ReplayOptions {
  /** Sees each record in order with its 1-based line, e.g. to print the ledger. */
  readonly onRecord?: (record: JournalRecord, line: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Reads a journal that may still grow, in bounded memory: each `read` continues after the last whole record. A coordinator that takes the run
 * over cuts a torn last line off and keeps all records before it, so their place in the file stays.
 */
export class JournalReader {
  readonly path: string;
  #state = EMPTY_JOURNAL_STATE;
  #link = FIRST_LINK;
  #numRecords = 0;
  #wholeBytes = 0;

  constructor(path: string) {
    this.path = path;
  }

  /** State of the records that were read. */
  get state(): JournalState {
    return this.#state;
  }

  /**
   * Reads the records that are there and were not read before.
   * @returns the sum of all records so far
   * @throws JOURNAL_CORRUPT naming the line, for a bad line before the last one, a record whose link is not that to the line before, or one
   *   that cannot follow the others; PATH_UNUSABLE; ABORTED
   */
  async read({ onRecord, signal }: ReplayOptions = {}): Promise<JournalReplay> {
    const { path } = this;
    let torn: TornTail | undefined;
    const readOn = async (file: FileHandle, { size }: Stats): Promise<void> => {
      if (size < this.#wholeBytes)
        throw corrupt(path, this.#numRecords, `expected at least ${this.#wholeBytes} B, which were read before, found ${size} B`); // prettier-ignore
      for await (const { bytes, isWhole } of readLines(file, path, this.#wholeBytes)) {
        throwIfAborted(signal, `replaying ${path}`);
        if (torn !== undefined) throw corrupt(path, torn.line, torn.reason);
        const line = this.#numRecords + 1;
        const decoded = isWhole ? decodeLine(bytes) : 'the line does not end';
        if (typeof decoded === 'string') {
          const start = bytes.toString('latin1');
          if (line === 1 && UNLINKED.test(start)) throw unlinked(path);
          if (RECORD_START.test(start.slice(1))) throw corrupt(path, line, decoded);
          torn = { line, bytes: bytes.length + (isWhole ? 1 : 0), reason: decoded };
          continue;
        }
        const { record } = decoded;
        if (decoded.previous !== this.#link)
          throw corrupt(
            path,
            line,
            `expected a record that follows line ${line - 1} (link ${this.#link}), found link ${decoded.previous}`,
          );
        const next = applyRecord(this.#state, record);
        if (typeof next === 'string') throw corrupt(path, line, next);
        this.#state = next;
        this.#link = linkTo(bytes);
        this.#numRecords = line;
        this.#wholeBytes += bytes.length + 1;
        onRecord?.(record, line);
      }
    };
    try {
      await withRegularFile(path, readOn);
    } catch (error) {
      throw toStorageError(error, 'read', path);
    }
    return {
      ...{ state: this.#state, numRecords: this.#numRecords, link: this.#link, wholeBytes: this.#wholeBytes },
      ...(torn === undefined ? {} : { torn }),
    };
  }
}

/** Reads a journal from its beginning. @throws as JournalReader.read */
export function replayJournal(path: string, options: ReplayOptions = {}): Promise<JournalReplay> {
  return new JournalReader(path).read(options);
}

interface Pending {
  readonly bytes: Buffer;
  readonly resolve: () => void;
  readonly reject: (error: TrainerError) => void;
}

export interface JournalInit {
  /** Ends the replay. */
  readonly signal?: AbortSignal;
  /** Makes appends wait on a full disk; without it a full disk is a failure like any other. */
  readonly diskSpace?: DiskSpace;
}

/** The open journal of the coordinator that has the lock of the run folder. */
export class Journal {
  readonly path: string;
  readonly #file: RecordFile;
  readonly #closing = new AbortController();
  readonly #pending: Pending[] = [];
  #pendingBytes = 0;
  /** State after every record given to `append`, written or not: the next record must follow it. */
  #state: JournalState;
  #durableState: JournalState;
  /** Of the next record given to `append`. */
  #link: string;
  #draining: Promise<void> | undefined;
  #failure: TrainerError | undefined;

  private constructor(path: string, handle: FileHandle, replay: JournalReplay, diskSpace: DiskSpace | undefined) {
    this.path = path;
    this.#file = new RecordFile({
      path,
      handle,
      bytes: replay.wholeBytes,
      keepTrying: (attempt) => diskSpace?.keepTrying(attempt, this.#closing.signal) ?? attempt(),
    });
    this.#state = replay.state;
    this.#durableState = replay.state;
    this.#link = replay.link;
  }

  /**
   * Opens or creates a journal, replays it, and cuts a torn last line off (the caller logs `replay.torn`).
   * @throws JOURNAL_CORRUPT, PATH_UNUSABLE, DISK_FULL, ABORTED
   */
  static async open(
    path: string,
    { signal, diskSpace }: JournalInit = {},
  ): Promise<{ journal: Journal; replay: JournalReplay }> {
    let file: FileHandle;
    try {
      file = await openToAppend(path); // creates it
    } catch (error) {
      throw toStorageError(error, 'open', path);
    }
    try {
      const replay = await replayJournal(path, signal === undefined ? {} : { signal });
      if (replay.torn !== undefined) await file.truncate(replay.wholeBytes);
      await file.sync();
      await syncFolder(dirname(path));
      return { journal: new Journal(path, file, replay, diskSpace), replay };
    } catch (error) {
      await file.close();
      throw toStorageError(error, 'open', path);
    }
  }

  /** State of the records that are on disk. */
  get state(): JournalState {
    return this.#durableState;
  }

  /**
   * Appends a record; records reach the disk in the order of the calls.
   * @returns resolves when the record is on disk; on a full disk it waits for free space
   * @throws INTERNAL for a record that breaks its schema or the order of the run; PATH_UNUSABLE, and DISK_FULL where appends do not wait (any
   *   more): then no record can be appended, and the file ends with the last acknowledged one
   */
  async append(record: JournalRecord): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const parsed = journalRecordSchema.safeParse(record);
    assertInvariant(parsed.success, `journal record: ${parsed.success ? '' : z.prettifyError(parsed.error)}`);
    const next = applyRecord(this.#state, record);
    if (typeof next === 'string') throw new TrainerError('INTERNAL', `${this.path}: ${next}`);
    const bytes = Buffer.from(encodeRecord(record, this.#link));
    assertInvariant(bytes.length <= MAX_LINE_BYTES, `journal record above ${MAX_LINE_BYTES} B`);
    const pendingBytes = this.#pendingBytes + bytes.length;
    assertInvariant(this.#pending.length < MAX_PENDING_RECORDS, `${MAX_PENDING_RECORDS} journal records are pending`);
    assertInvariant(pendingBytes <= MAX_PENDING_BYTES, `${MAX_PENDING_BYTES} B of journal records are pending`);

    this.#state = next;
    this.#link = linkTo(bytes.subarray(0, -1));
    this.#pendingBytes = pendingBytes;
    await new Promise<void>((resolve, reject) => {
      const acknowledge = () => {
        this.#durableState = next;
        resolve();
      };
      this.#pending.push({ bytes, resolve: acknowledge, reject });
      this.#draining ??= this.#drain();
    });
  }

  /** Writes the pending records, without waiting on a full disk, then closes the file. Later appends fail. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#draining;
    this.#failure ??= new TrainerError('INTERNAL', `${this.path} is closed`);
    await this.#file.close();
  }

  /** Writes one record after the other; nothing else writes to the file. Never rejects. */
  async #drain(): Promise<void> {
    for (let entry = this.#pending.shift(); entry !== undefined; entry = this.#pending.shift()) {
      this.#pendingBytes -= entry.bytes.length;
      try {
        if (this.#failure !== undefined) throw this.#failure;
        await this.#file.append(entry.bytes);
        entry.resolve();
      } catch (error) {
        this.#failure = toStorageError(error, 'append to', this.path);
        entry.reject(this.#failure);
      }
    }
    this.#draining = undefined;
  }
}

/** A line that is whole by itself. */
export interface DecodedLine {
  readonly record: JournalRecord;
  /** To the line before. */
  readonly previous: string;
}

/** The record of a line without its newline, or the reason why it is none. Its link is not compared here. */
export function decodeLine(line: Buffer): DecodedLine | string {
  const text = line.toString('utf8');
  const expected = text.slice(0, CRC_CHARS - 1);
  const found = crc32(line.subarray(CRC_CHARS)).toString(16).padStart(8, '0');
  if (text[CRC_CHARS - 1] !== ' ' || expected !== found)
    return `expected CRC-32 ${JSON.stringify(expected)}, found ${found}`;
  const previous = text.slice(CRC_CHARS, CRC_CHARS + LINK_CHARS - 1);
  const json = text.slice(CRC_CHARS + LINK_CHARS);
  try {
    const value: unknown = JSON.parse(json);
    if (isTooDeep(json)) return 'too many lists and objects inside each other';
    const parsed = journalRecordSchema.safeParse(value);
    return parsed.success ? { record: parsed.data, previous } : z.prettifyError(parsed.error);
  } catch {
    return 'not JSON';
  }
}

interface Line {
  /** Without its newline. */
  readonly bytes: Buffer;
  /** Whether its newline is there. */
  readonly isWhole: boolean;
}

async function* readLines(file: FileHandle, path: string, start: number): AsyncGenerator<Line> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  const pieces = file.createReadStream({ start, highWaterMark: 1024 * 1024, autoClose: false });
  for await (const piece of pieces as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end !== -1; end = piece.indexOf(NEWLINE, from)) {
      yield { bytes: Buffer.concat([...rest, piece.subarray(from, end)]), isWhole: true };
      rest = [];
      restBytes = 0;
      from = end + 1;
    }
    if (from === piece.length) continue;
    rest.push(piece.subarray(from));
    restBytes += piece.length - from;
    if (restBytes > MAX_LINE_BYTES)
      throw new TrainerError('JOURNAL_CORRUPT', `${path}: a line above ${MAX_LINE_BYTES} B; this is not a journal`);
  }
  if (restBytes > 0) yield { bytes: Buffer.concat(rest), isWhole: false };
}

function unlinked(path: string): TrainerError {
  return new TrainerError(
    'JOURNAL_CORRUPT',
    `${path}: expected a journal whose records are linked, found one of an older version of exmix; continue the run with that version, ` +
      'or resume from a checkpoint of the run into a new folder: exmix train --resume CHECKPOINT',
  );
}

function corrupt(path: string, line: number, reason: string): TrainerError {
  const advice = 'the file was damaged after it was written; resume from a checkpoint folder into a new run';
  return new TrainerError('JOURNAL_CORRUPT', `${path} line ${line}: ${reason}; ${advice}`);
}
