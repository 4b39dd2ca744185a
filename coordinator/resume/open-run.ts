/**
 * From a config and a prepared mixture to a run that can start: its folder (new or resumed), its journal with a new epoch, its ledger, and
 * the step, cursor and checkpoint to start from. Every error that can be known now is thrown here, before a worker starts.
 */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { replaceByCopy, replaceFile } from '../../shared/atomic-file.ts';
import { findLatestCheckpoint } from '../../shared/checkpoint/read.ts';
import type { Clock } from '../../shared/clock.ts';
import { numericsHash } from '../../shared/config/load-config.ts';
import type { InitSettings, RunConfig } from '../../shared/config/schema.ts';
import { assertInvariant } from '../../shared/errors.ts';
import type { RunOpened } from '../journal/journal-records.ts';
import { Journal } from '../journal/journal.ts';
import type { RateChange } from '../deal/rate-changes.ts';
import { LedgerWriter, sessionStart } from '../ledger/ledger-writer.ts';
import { listSegments } from '../ledger/segment-files.ts';
import type { PastGeneration } from '../membership/generation.ts';
import { DiskSpace } from '../run-folder/disk-space.ts';
import {
  createRunFolder,
  discardNewRun,
  openRunFolder,
  resolveResume,
  type ResumeTarget,
  type RunFolder,
  type RunPaths,
} from '../run-folder/run-folder.ts';
import type { LockInit } from '../run-folder/run-lock.ts';
import { hasSamePlan, resumeFrom, type ResumePoint } from './resume-point.ts';
import { startFromCheckpoint, startFromScratch, type StartInit, type StartingPoint } from './starting-point.ts';

export interface OpenRunInit {
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  /** Its wall time names a new folder. */
  readonly clock: Clock;
  /** Ends the wait for free space on a full disk. */
  readonly signal: AbortSignal;
  /** Ends the wait for the lease of another coordinator. */
  readonly gentle: AbortSignal;
  readonly onLockWait: LockInit['onWaiting'];
  /** Free space that the checkpoints need at least, bytes. */
  readonly requiredBytes: number;
  /** Folder of a new run; default `runs/<name>-<time>`. */
  readonly runDir?: string;
  /** A run folder or a checkpoint folder to resume; default: a new run. */
  readonly resume?: string;
  /** Where the run of a run folder continues; default: at the last committed step of its journal. */
  readonly resumeAt?: ResumePoint;
  /** The mixture may differ from that of the run or checkpoint that is resumed. */
  readonly allowMixtureChange: boolean;
}

export interface OpenRun {
  readonly folder: RunFolder;
  readonly journal: Journal;
  readonly ledger: LedgerWriter;
  readonly runId: string;
  /** Pauses the run while the disk is full, once it has the log. */
  readonly diskSpace: DiskSpace;
  readonly epoch: number;
  readonly start: StartingPoint;
  /** The generation that trained last, whose members may hold the state; undefined: load the checkpoint. */
  readonly before: PastGeneration | undefined;
  /** Sentences to log. */
  readonly notes: readonly string[];
  /** Seals the ledger, releases journal and folder. @param isUnused nothing was trained: the folder of a new run is removed */
  close(isUnused?: boolean): Promise<void>;
}

/** @throws PATH_UNUSABLE, DISK_FULL, RUN_LOCKED, JOURNAL_CORRUPT, and the errors of startFromCheckpoint and resumeFrom */
export async function openRun(init: OpenRunInit): Promise<OpenRun> {
  const { config, mixture, clock, allowMixtureChange } = init;
  const startInit: StartInit = { config, mixture, allowMixtureChange };
  const target = init.resume === undefined ? undefined : await resolveResume(init.resume);
  const configText = stringify(config);
  // A checkpoint that cannot be resumed is refused before a new folder is made for it.
  const fromCheckpoint =
    target?.kind === 'checkpoint'
      ? await startFromCheckpoint(target.checkpointFolder, startInit, { kind: 'checkpoint' })
      : undefined;
  const folder = await openFolder(init, target, configText);
  const signal = AbortSignal.any([init.signal, folder.lock.lost]);
  const diskSpace = new DiskSpace({ folder: folder.folder, clock, signal });
  let journal: Journal | undefined;
  try {
    if (folder.lock.takenOver !== undefined) await disownFiles(folder);
    const opened = await Journal.open(folder.journal, { diskSpace });
    journal = opened.journal;
    const { state } = journal;
    const notes = [...folder.notes];
    const { torn } = opened.replay;
    if (torn !== undefined)
      notes.push(`cut ${torn.bytes} torn bytes off line ${torn.line} of the journal: ${torn.reason}`);
    const saved = fromCheckpoint ?? (await startInFolder(folder, startInit, state.rateChanges, notes));
    const isChanged = allowMixtureChange && !hasSamePlan(state, startInit);
    const point: ResumePoint =
      target?.kind !== 'run' || isChanged ? { kind: 'newest-checkpoint' } : (init.resumeAt ?? { kind: 'journal' });
    const { start, before } = await resumeFrom(point, saved, state, startInit);
    notes.push(...start.notes);
    if (target?.kind === 'run') await replaceFile(folder.config, configText);
    const epoch = state.epoch + 1;
    const runId = state.opened?.runId ?? randomUUID();
    // Before the journal opens the new epoch: until then the newest segment is of the epoch opened last.
    const { ledger, notes: ledgerNotes } = await LedgerWriter.open({
      folder: folder.ledger,
      epoch,
      seed: config.seed,
      mixtureHash: mixture.hash,
      tasks: mixture.tasks,
      start: sessionStart(start, mixture.tasks.length),
      committed: { epoch: state.epoch, step: state.step },
      diskSpace,
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
      ...(config.init === undefined ? {} : { init: beginningOf(config.init) }),
    });
    // A new folder does not have the changes of the run before; a changed mixture begins with a change of its own.
    for (const change of start.rateChanges)
      if (!state.rateChanges.some((known) => isDeepStrictEqual(known, change)))
        await journal.append({ kind: 'rates-changed', epoch, ...change, reason: 'carried over from the resumed run' });
    const held = journal;
    const close = async (isUnused = false): Promise<void> => {
      try {
        await ledger.close();
      } finally {
        await held.close();
        if (isUnused) await discardNewRun(folder);
        await folder.lock.release();
      }
    };
    return { folder, journal, ledger, diskSpace, runId, epoch, start, before, notes, close };
  } catch (error) {
    await journal?.close();
    await discardNewRun(folder);
    await folder.lock.release();
    throw error;
  }
}

/** The part of `init` that the journal holds. */
function beginningOf({ folder, paramDigest, optimizer }: InitSettings): NonNullable<RunOpened['init']> {
  assertInvariant(folder !== undefined && paramDigest !== undefined, 'init is resolved before the run is opened');
  return { folder, paramDigest, optimizer };
}

function openFolder(
  { config, clock, signal, gentle, onLockWait, requiredBytes, runDir }: OpenRunInit,
  target: ResumeTarget | undefined,
  configText: string,
): Promise<RunFolder> {
  const lock = { clock, signal: AbortSignal.any([signal, gentle]), onWaiting: onLockWait };
  if (target?.kind === 'run') return openRunFolder(target.runFolder, lock, requiredBytes);
  const place = { runsFolder: 'runs', ...(runDir === undefined ? {} : { folder: runDir }) };
  return createRunFolder({ ...place, name: config.name, lock, configText, requiredBytes });
}

/** The newest valid checkpoint of a run folder, or the beginning where it has none. */
async function startInFolder(
  folder: RunFolder,
  init: StartInit,
  changes: readonly RateChange[],
  notes: string[],
): Promise<StartingPoint> {
  const { latest, skipped } = await findLatestCheckpoint(folder.folder);
  for (const { path, reason } of skipped) notes.push(`skipped ${path}: ${reason}`);
  if (latest === undefined) return startFromScratch(init, changes);
  return startFromCheckpoint(latest.path, init, { kind: 'journal', changes });
}

/**
 * After a lock was taken over its former owner may only have been frozen, with journal and ledger open. Moves their content to new files: the
 * former owner then writes to files without a name.
 * @throws PATH_UNUSABLE, DISK_FULL
 */
async function disownFiles({ journal, ledger }: RunPaths): Promise<void> {
  // In this order: the ledger has a step before the journal does, so no commit is without its step, whenever the former owner wakes.
  await replaceByCopy(journal);
  const newest = (await listSegments(ledger)).at(-1);
  if (newest !== undefined) await replaceByCopy(newest.path);
}
