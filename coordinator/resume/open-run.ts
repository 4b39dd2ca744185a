/**
 * From a config and a prepared mixture to a run that can start: its folder (new or resumed), its journal with a new epoch, and
 * the step, cursor and checkpoint to start from. Everything that can be known to be wrong is said here, before a worker starts.
 */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../../shared/clock.ts';
import { findLatestCheckpoint } from '../../shared/checkpoint/read.ts';
import { numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { replaceFile, replaceByCopy } from '../../shared/atomic-file.ts';
import { Journal } from '../journal/journal.ts';
import { LedgerWriter, sessionStart } from '../ledger/ledger-writer.ts';
import type { PastGeneration } from '../membership/generation.ts';
import { RoomOnDisk } from '../run-folder/room-on-disk.ts';
import {
  createRunFolder,
  openRunFolder,
  resolveResume,
  type RunFolder,
  type RunPaths,
} from '../run-folder/run-folder.ts';
import { goOnFrom, isSamePlan, openGeneration } from './continue-from-journal.ts';
import { startFromCheckpoint, startFromScratch, type StartInit, type StartingPoint } from './starting-point.ts';
import { listSegments } from '../ledger/segment-files.ts';

export interface OpenRunInit {
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  /** Its wall time names a new folder. */
  readonly clock: Clock;
  /** Ends the wait for room on a full disk. */
  readonly signal: AbortSignal;
  /** Room that the checkpoints need at least, bytes. */
  readonly requiredBytes: number;
  /** Where a new run goes; default `runs/<name>-<time>`. */
  readonly runDir?: string;
  /** A run folder or a checkpoint folder. */
  readonly resume?: string;
  /**
   * Where a run that nobody has ended goes on: at the step its journal has, which workers may hold (left out); at an earlier one that they
   * have turned out to hold; or from the newest checkpoint.
   */
  readonly goOnAt?: number | 'checkpoint';
  /** The mixture may be another one than that of the run or checkpoint that is resumed. */
  readonly allowMixtureChange: boolean;
}

export interface OpenRun {
  readonly folder: RunFolder;
  readonly journal: Journal;
  readonly ledger: LedgerWriter;
  readonly runId: string;
  /** A full disk pauses the run, once this knows the log to tell it to. */
  readonly room: RoomOnDisk;
  readonly epoch: number;
  readonly start: StartingPoint;
  /** Who trained last, where the run goes on from what they hold. */
  readonly before: PastGeneration | undefined;
  /** Sentences to log. */
  readonly notes: readonly string[];
  /** Seals the ledger, releases journal and folder. */
  close(): Promise<void>;
}

/**
 * @throws PATH_UNUSABLE, DISK_FULL, RUN_LOCKED, JOURNAL_CORRUPT, and what startFromCheckpoint throws
 */
export async function openRun(init: OpenRunInit): Promise<OpenRun> {
  const { config, mixture, clock, requiredBytes, allowMixtureChange } = init;
  const wallMs = clock.wallMs();
  const startInit: StartInit = { config, mixture, allowMixtureChange };
  const target = init.resume === undefined ? undefined : await resolveResume(init.resume);
  const configText = stringify(config);
  // What cannot be resumed is refused before a new folder is made for it.
  const fromCheckpoint =
    target?.kind === 'checkpoint' ? await startFromCheckpoint(target.checkpointFolder, startInit) : undefined;
  const folder =
    target?.kind === 'run'
      ? await openRunFolder(target.runFolder, wallMs, requiredBytes)
      : await createRunFolder({
          runsFolder: 'runs',
          name: config.name,
          wallMs,
          configText,
          requiredBytes,
          ...(init.runDir === undefined ? {} : { folder: init.runDir }),
        });
  const signal = AbortSignal.any([init.signal, folder.lock.lost]);
  const room = new RoomOnDisk({ folder: folder.folder, clock, signal });
  let journal: Journal | undefined;
  try {
    if (folder.lock.takenOver !== undefined) await fenceOff(folder);
    const opened = await Journal.open(folder.journal, { room });
    journal = opened.journal;
    const notes = [...folder.notes];
    const { torn } = opened.replay;
    if (torn !== undefined)
      notes.push(`cut ${torn.bytes} torn bytes off line ${torn.line} of the journal: ${torn.reason}`);
    const journalled = journal.state.rateChanges;
    const saved = fromCheckpoint ?? (await startInFolder(folder, { ...startInit, journalled }, notes));
    const { goOnAt = journal.state.step } = init;
    const isChanged = allowMixtureChange && !isSamePlan(journal.state, startInit);
    const isHeld = target?.kind === 'run' && goOnAt !== 'checkpoint' && !isChanged;
    const before = isHeld ? openGeneration(journal.state) : undefined;
    const start = before === undefined ? saved : await goOnFrom(saved, journal.state, goOnAt as number, startInit);
    notes.push(...start.notes);
    if (target?.kind === 'run') await replaceFile(folder.config, configText);
    const epoch = journal.state.epoch + 1;
    const runId = journal.state.opened?.runId ?? randomUUID();
    // Before the journal opens the new epoch: the newest segment is then of the epoch it opened last.
    const { ledger, notes: ledgerNotes } = await LedgerWriter.open({
      folder: folder.ledger,
      epoch,
      seed: config.seed,
      mixtureHash: mixture.hash,
      tasks: mixture.tasks,
      start: sessionStart(start, mixture.tasks.length),
      committed: { epoch: journal.state.epoch, step: journal.state.step },
      room,
    });
    notes.push(...ledgerNotes);
    await journal.append({
      kind: 'run-opened',
      epoch,
      runId,
      configHash: numericsHash(config),
      seed: config.seed,
      mixtureHash: mixture.hash,
      step: start.step,
      ...(before === undefined ? {} : { goesOn: true as const }),
      ...(start.checkpoint?.step === start.step ? { fromCheckpoint: start.checkpoint.path } : {}),
    });
    // A new folder does not know the changes of the run it goes on from; a changed mixture begins with one of its own.
    for (const change of start.rateChanges)
      if (!journalled.some((known) => isDeepStrictEqual(known, change)))
        await journal.append({ kind: 'rates-changed', epoch, ...change, reason: 'as the run goes on' });
    const held = journal;
    const close = async (): Promise<void> => {
      try {
        await ledger.close();
      } finally {
        await held.close();
        await folder.lock.release();
      }
    };
    return { folder, journal, ledger, room, runId, epoch, start, before, notes, close };
  } catch (error) {
    await journal?.close();
    await folder.lock.release();
    throw error;
  }
}

/** The newest valid checkpoint of a run folder, or the beginning where it has none. */
async function startInFolder(folder: RunFolder, init: StartInit, notes: string[]): Promise<StartingPoint> {
  const { latest, skipped } = await findLatestCheckpoint(folder.folder);
  for (const { path, reason } of skipped) notes.push(`skipped ${path}: ${reason}`);
  return latest === undefined ? startFromScratch(init) : startFromCheckpoint(latest.path, init);
}

// FOLDED open-run.ts
/**
 * A lock that was taken over: its owner may only have been frozen, with journal and ledger open. From here on it writes to files without a
 * name.
 */

/** @throws PATH_UNUSABLE, DISK_FULL */
export async function fenceOff({ journal, ledger }: RunPaths): Promise<void> {
  // In this order: a step comes into the ledger before it is committed, so no commit is without its step, whenever the owner wakes.
  await replaceByCopy(journal);
  const newest = (await listSegments(ledger)).at(-1);
  if (newest !== undefined) await replaceByCopy(newest.path);
}
