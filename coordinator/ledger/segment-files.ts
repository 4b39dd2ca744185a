/** The segments of a ledger on disk: their names, and reading them. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode, toStorageError, withRegularFile } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import type { RunPaths } from '../run-folder/run-folder.ts';
import { isOlderFormat, parseHeader, type SegmentHeader } from './segment-format.ts';

export interface SegmentFile {
  /** From 1. */
  readonly number: number;
  readonly path: string;
}

/** A larger file is no segment: one is sealed at 1 MiB, after its last record of at most 64 MiB. */
const MAX_SEGMENT_BYTES = 128 * 1024 * 1024;
/** Bytes to read for the header; a file with a longer header is read in full. */
const HEADER_GUESS_BYTES = 16 * 1024;

export function segmentPath(folder: string, number: number): string {
  return join(folder, `segment-${String(number).padStart(6, '0')}.ledger`);
}

/** The segments of a folder in order; none where there is no folder. @throws PATH_UNUSABLE */
export async function listSegments(folder: string): Promise<SegmentFile[]> {
  try {
    const names = await readdir(folder);
    return names
      .flatMap((name) => {
        const number = Number(/^segment-(\d{6,})\.ledger$/u.exec(name)?.[1]);
        return Number.isNaN(number) ? [] : [{ number, path: join(folder, name) }];
      })
      .sort((a, b) => a.number - b.number);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw toStorageError(error, 'read', folder);
  }
}

/** The segments of a run; at least one. @throws PATH_UNUSABLE where the run kept no ledger */
export async function listKeptSegments({ folder, ledger }: RunPaths): Promise<SegmentFile[]> {
  const files = await listSegments(ledger);
  if (files.length > 0) return files;
  throw new TrainerError('PATH_UNUSABLE', `${folder}: the run kept no ledger; an older version trained it`);
}

/** @throws PATH_UNUSABLE; LEDGER_CORRUPT for a segment of an older format */
export async function readSegmentBytes(path: string): Promise<Buffer> {
  try {
    return refuseOlderFormat(path, await readSmallFile(path, MAX_SEGMENT_BYTES));
  } catch (error) {
    throw toStorageError(error, 'read', path);
  }
}

/** The header alone. @returns a sentence why there is none @throws PATH_UNUSABLE; LEDGER_CORRUPT for a segment of an older format */
export async function readSegmentHeader(path: string): Promise<SegmentHeader | string> {
  const bytes = Buffer.alloc(HEADER_GUESS_BYTES);
  let numBytes: number;
  try {
    ({ bytesRead: numBytes } = await withRegularFile(path, (file) => file.read(bytes, 0, bytes.length, 0)));
  } catch (error) {
    throw toStorageError(error, 'read', path);
  }
  const isAll = numBytes < bytes.length;
  const found = parseHeader(refuseOlderFormat(path, bytes.subarray(0, numBytes)));
  if (typeof found !== 'string') return found.header;
  if (isAll) return found;
  const whole = parseHeader(await readSegmentBytes(path));
  return typeof whole === 'string' ? whole : whole.header;
}

function refuseOlderFormat(path: string, bytes: Buffer): Buffer {
  if (!isOlderFormat(bytes)) return bytes;
  throw new TrainerError(
    'LEDGER_CORRUPT',
    `${path}: expected a ledger of format 2, found format 1 of an older version of exmix; read it with that version, ` +
      'or resume from a checkpoint of the run into a new folder: exmix train --resume CHECKPOINT',
  );
}
