/**
 * Repairs a ledger before a new session writes to it. After a crash the last segment may end with a torn record, or with a step that was
 * written but never committed: the repair removes both and seals the segment. Runs under the lock of the run folder, before the journal
 * holds the new epoch, so the newest segment belongs to the epoch that the journal opened last.
 */
import { rename } from 'node:fs/promises';
import { basename } from 'node:path';
import { toStorageError, withFile } from '../../shared/atomic-file.ts';
import { listSegments, readSegmentBytes } from './segment-files.ts';
import { encodeSeal, endsInHeader, parseSegment, sha256Of, type ParsedSegment } from './segment-format.ts';

export interface RepairedLedger {
  /** Number of the newest segment; 0 where there is none. */
  readonly newest: number;
  /** SHA-256 of its file. */
  readonly sha256: string | null;
  /** Sentences to log: removed bytes and steps, and missing steps. */
  readonly notes: readonly string[];
}

/** The newest commit of the journal. */
export interface LastCommit {
  /** The epoch that the journal opened last; 0 before the first. */
  readonly epoch: number;
  /** The last step of the epoch, or the step it started from. */
  readonly step: number;
}

/** @throws PATH_UNUSABLE, DISK_FULL; LEDGER_CORRUPT for a ledger of an older format */
export async function repairLedger(folder: string, lastCommit: LastCommit): Promise<RepairedLedger> {
  const notes: string[] = [];
  for (;;) {
    const newest = (await listSegments(folder)).at(-1);
    if (newest === undefined) return { newest: 0, sha256: null, notes };
    const { path, number } = newest;
    const bytes = await readSegmentBytes(path);
    const segment = parseSegment(bytes);
    if (typeof segment === 'string') {
      if (!isTornHeader(bytes)) {
        notes.push(`ledger: ${basename(path)} is damaged (${segment}); its steps cannot be read`);
        return { newest: number, sha256: sha256Of(bytes).toString('hex'), notes };
      }
      notes.push(`ledger: set ${basename(path)} aside: a killed run left its header torn (${segment})`);
      await setAside(path);
      continue;
    }
    if (segment.isSealed) return { newest: number, sha256: sha256Of(bytes).toString('hex'), notes };
    // A session without a ledger may have come since. Then every record stays, and the audit compares them with the journal.
    const isOfLast = segment.header.epoch === lastCommit.epoch;
    const committed = isOfLast ? lastCommit.step : segment.header.firstStep + segment.records.length - 1;
    const kept = keepCommitted(segment, committed);
    await rewriteEnd(path, kept.length, encodeSeal(kept.numRecords, sha256Of(bytes.subarray(0, kept.length))));
    notes.push(...explain(basename(path), segment, bytes.length, kept, committed));
    return { newest: number, sha256: sha256Of(await readSegmentBytes(path)).toString('hex'), notes };
  }
}

/** Whether a crash left the file while its header was written: cut, or zeros. A header is on disk before its first step is committed. */
function isTornHeader(bytes: Buffer): boolean {
  return endsInHeader(bytes) || bytes.every((byte) => byte === 0);
}

interface Kept {
  readonly numRecords: number;
  /** Bytes of the file up to the end of the last kept record. */
  readonly length: number;
}

function keepCommitted({ header, records, wholeBytes }: ParsedSegment, committed: number): Kept {
  const numRecords = Math.max(0, Math.min(records.length, committed + 1 - header.firstStep));
  return { numRecords, length: records[numRecords]?.start ?? wholeBytes };
}

/** Notes on removed bytes and steps, and on committed steps that the segment lacks. */
function explain(
  name: string,
  { header, records, damage, wholeBytes }: ParsedSegment,
  fileBytes: number,
  kept: Kept,
  committed: number,
): string[] {
  const notes: string[] = [];
  if (damage !== undefined) notes.push(`ledger: cut ${fileBytes - wholeBytes} torn bytes off ${name}: ${damage}`);
  const dropped = records.length - kept.numRecords;
  if (dropped > 0)
    notes.push(
      `ledger: cut ${dropped} ${dropped === 1 ? 'step' : 'steps'} off ${name} that had been written and not committed`,
    );
  const last = header.firstStep + kept.numRecords - 1;
  if (last < committed)
    notes.push(
      `ledger: steps ${last + 1} to ${committed} are committed and not in ${name}; their examples are not recorded`,
    );
  return notes;
}

async function rewriteEnd(path: string, length: number, seal: Buffer): Promise<void> {
  try {
    await withFile(path, 'r+', async (file) => {
      await file.truncate(length);
      await file.write(seal, 0, seal.length, length);
      await file.sync();
    });
  } catch (error) {
    throw toStorageError(error, 'seal', path);
  }
}

async function setAside(path: string): Promise<void> {
  try {
    await rename(path, `${path}.torn`);
  } catch (error) {
    throw toStorageError(error, 'rename', path);
  }
}
