/**
 * The journal of a run on a disk of the simulation, with the rules of coordinator/journal/journal.ts: order of records, one fsync per
 * record, acknowledged records stay. After a crash, the next coordinator opens the same lines.
 */
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import {
  applyRecord,
  EMPTY_JOURNAL_STATE,
  journalRecordSchema,
  type JournalRecord,
  type JournalState,
} from '../../coordinator/journal/journal-records.ts';
import { MAX_PENDING_RECORDS, type Journal } from '../../coordinator/journal/journal.ts';
import type { MemoryDisk } from './memory-disk.ts';
import type { VirtualProcess } from './virtual-process.ts';

/** The part of Journal that a coordinator uses. */
export type JournalLike = Pick<Journal, 'append' | 'state'>;

export interface MemoryJournalInit {
  readonly disk: MemoryDisk;
  readonly process: VirtualProcess;
  /** The file: one JSON record per line. Outlives the process. */
  readonly lines: string[];
}

/** Parses the records without checking their order. */
export function parseMemoryJournal(lines: readonly string[]): JournalRecord[] {
  return lines.map((line) => journalRecordSchema.parse(JSON.parse(line)));
}

/** @throws JOURNAL_CORRUPT if a record cannot follow the ones before it */
export function readMemoryJournal(lines: readonly string[]): { records: JournalRecord[]; state: JournalState } {
  let state = EMPTY_JOURNAL_STATE;
  const records = parseMemoryJournal(lines);
  for (const [i, record] of records.entries()) {
    const next = applyRecord(state, record);
    if (typeof next === 'string') throw new TrainerError('JOURNAL_CORRUPT', `journal line ${i + 1}: ${next}`);
    state = next;
  }
  return { records, state };
}

export class MemoryJournal implements JournalLike {
  readonly #init: MemoryJournalInit;
  /** State after every record given to `append`. */
  #state: JournalState;
  #durableState: JournalState;
  #last: Promise<void> = Promise.resolve();
  #numPending = 0;

  /** @throws JOURNAL_CORRUPT */
  constructor(init: MemoryJournalInit) {
    this.#init = init;
    this.#state = this.#durableState = readMemoryJournal(init.lines).state;
  }

  get state(): JournalState {
    return this.#durableState;
  }

  async append(record: JournalRecord): Promise<void> {
    const { disk, process, lines } = this.#init;
    assertInvariant(journalRecordSchema.safeParse(record).success, `journal record ${JSON.stringify(record)}`);
    const next = applyRecord(this.#state, record);
    if (typeof next === 'string') throw new TrainerError('INTERNAL', `journal: ${next}`);
    assertInvariant(this.#numPending < MAX_PENDING_RECORDS, `${MAX_PENDING_RECORDS} journal records are pending`);
    this.#state = next;
    this.#numPending += 1;
    const line = JSON.stringify(record);
    const written = this.#last.then(() => disk.write(process, record.kind, () => lines.push(line)));
    this.#last = written;
    await written;
    this.#numPending -= 1;
    this.#durableState = next;
  }
}
