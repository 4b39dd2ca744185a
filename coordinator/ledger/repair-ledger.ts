/**
 * Puts a ledger in order before a new session writes to it: after a crash the last segment may end with a torn record, or with a step
 * that was written but never committed. Both are cut off, and the segment is sealed. Runs under the lock of the run folder, before the
 * new epoch is in the journal, so the newest segment belongs to the epoch that the journal opened last.
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
  /** Sentences to log: what was cut off, and what is missing. */
  readonly notes: readonly string[];
}

/** What the journal committed last. */
export interface LastCommit {
  /** Opened last; 0 where none was. */
  readonly epoch: number;
  /** The last step it committed, or the one it started from. */
  readonly step: number;
}

/** @throws PATH_UNUSABLE, DISK_FULL */
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
      notes.push(`ledger: set ${basename(path)} aside, which a killed run had just begun (${segment})`);
      await setAside(path);
      continue;
    }
    if (segment.isSealed) return { newest: number, sha256: sha256Of(bytes).toString('hex'), notes };
    // A session that kept no ledger may have come since: then the segment is left as it is, and the audit compares it with the journal.
    const isOfLast = segment.header.epoch === lastCommit.epoch;
    const committed = isOfLast ? lastCommit.step : segment.header.firstStep + segment.records.length - 1;
    const kept = keepCommitted(segment, committed);
    await rewriteEnd(path, kept.length, encodeSeal(kept.numRecords, sha256Of(bytes.subarray(0, kept.length))));
    notes.push(...explain(basename(path), segment, bytes.length, kept, committed));
    return { newest: number, sha256: sha256Of(await readSegmentBytes(path)).toString('hex'), notes };
  }
}

/** As a crash leaves a file that was just begun: cut, or zeros. A header is on disk before the first of its steps is committed. */
function isTornHeader(bytes: Buffer): boolean {
  return endsInHeader(bytes) || bytes.every((byte) => byte === 0);
}

interface Kept {
  readonly numRecords: number;
  /** Bytes of the file up to the last record that is kept. */
  readonly length: number;
}

function keepCommitted({ header, records, wholeBytes }: ParsedSegment, committed: number): Kept {
  const numRecords = Math.max(0, Math.min(records.length, committed + 1 - header.firstStep));
  return { numRecords, length: records[numRecords]?.start ?? wholeBytes };
}

/** What was cut off, and what the journal has and the segment has not. */
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
      `ledger: steps ${last + 1} to ${committed} are committed and not in ${name}; what they trained on is not recorded`,
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
