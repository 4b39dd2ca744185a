/**
 * The folder of a run, and the checks that must pass in it before a worker starts:
 *
 * | name                | content                                               |
 * |---------------------|-------------------------------------------------------|
 * | `config.yaml`       | the resolved configuration                            |
 * | `journal`           | the journal (journal/journal.ts)                      |
 * | `coordinator.jsonl` | the log                                               |
 * | `checkpoints/`      | `step-<n>` folders                                    |
 * | `ledger/`           | the examples of each committed step (ledger/)         |
 * | `workers/`          | logs of the workers that `exmix train` starts         |
 * | `lock`              | the coordinator that owns the folder (run-lock.ts)    |
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, realpath, rm, stat, statfs, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import {
  removeLeftovers,
  replaceFile,
  syncFolder,
  systemCode,
  toStorageError,
  withFile,
} from '../../shared/atomic-file.ts';
import { stepOfFolder, UNFINISHED_PREFIXES } from '../../shared/checkpoint/layout.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { acquireRunLock, type LockInit, type RunLock } from './run-lock.ts';

/** Folder of logs and records of the workers that `exmix train` starts. */
export const WORKERS_FOLDER = 'workers';

export interface RunPaths {
  /** Absolute, as all paths here. */
  readonly folder: string;
  readonly config: string;
  readonly journal: string;
  readonly log: string;
  readonly checkpoints: string;
  readonly ledger: string;
}

export interface RunFolder extends RunPaths {
  readonly lock: RunLock;
  /** Of a new run: whether the folder was there before, empty; `resumed`: a run was in it. */
  readonly origin: 'made' | 'empty' | 'resumed';
  /** Sentences to log: a lock that was taken over, unfinished checkpoints that were removed. */
  readonly notes: readonly string[];
}

export function runPaths(folder: string): RunPaths {
  const root = resolve(folder);
  return {
    folder: root,
    config: join(root, 'config.yaml'),
    journal: join(root, 'journal'),
    log: join(root, 'coordinator.jsonl'),
    checkpoints: join(root, 'checkpoints'),
    ledger: join(root, 'ledger'),
  };
}

export interface CreateRunInit {
  /** A new or empty folder; default `<runsFolder>/<name>-<time>`. */
  readonly folder?: string;
  /** Parent of run folders, e.g. `runs`; made if missing. */
  readonly runsFolder: string;
  readonly name: string;
  /** The wall time of its clock is part of the folder's name. */
  readonly lock: LockInit;
  /** The resolved configuration, YAML. */
  readonly configText: string;
  /** Free space that the checkpoints need at least, bytes. */
  readonly requiredBytes: number;
}

/**
 * Makes the folder of a new run, locks it, and checks that it can be written and has the free space.
 * @throws PATH_UNUSABLE, also where the given folder is not empty; DISK_FULL
 */
export async function createRunFolder(init: CreateRunInit): Promise<RunFolder> {
  const { runsFolder, name, lock: lockInit, configText, requiredBytes } = init;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name))
    throw new TrainerError(
      'PATH_UNUSABLE',
      `run name ${JSON.stringify(name)}: expected letters, digits, '.', '_' and '-' only, as it names a folder`,
    );
  const { folder, origin } =
    init.folder === undefined
      ? await makeNewFolder(runsFolder, join(runsFolder, `${name}-${folderTime(lockInit.clock.wallMs())}`))
      : await makeEmptyFolder(init.folder);
  const lock = await acquireRunLock(folder, lockInit);
  try {
    const run = { ...(await checkFolder(runPaths(folder), lock, requiredBytes)), origin };
    await replaceFile(run.config, configText);
    return run;
  } catch (error) {
    await discardNewRun({ folder, origin });
    await lock.release();
    throw error;
  }
}

/**
 * Removes what is in the folder of a new run in which nothing was trained, and the folder if it was made for the run. Leaves a resumed run.
 * Assumes that the caller still holds the lock.
 */
export async function discardNewRun({ folder, origin }: Pick<RunFolder, 'folder' | 'origin'>): Promise<void> {
  if (origin === 'resumed') return;
  try {
    if (origin === 'made') await rm(folder, { recursive: true, force: true });
    else for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true, force: true });
  } catch {
    // What cannot be removed stays: the failure that is reported is another one.
  }
}

/**
 * Opens the folder of an earlier run to continue it: locks it, and removes the unfinished checkpoints of a killed coordinator.
 * @throws RUN_LOCKED, PATH_UNUSABLE, DISK_FULL, ABORTED
 */
export async function openRunFolder(folder: string, lockInit: LockInit, requiredBytes: number): Promise<RunFolder> {
  const paths = runPaths(folder);
  if (!(await isFile(paths.config)))
    throw new TrainerError('PATH_UNUSABLE', `${paths.folder} is not a run folder: it has no config.yaml`);
  await checkEntries(paths);
  const lock = await acquireRunLock(paths.folder, lockInit);
  try {
    return { ...(await checkFolder(paths, lock, requiredBytes)), origin: 'resumed' };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Whether the folder is that of a run. */
export function isRunFolder(folder: string): Promise<boolean> {
  return isFile(runPaths(folder).config);
}

/** @throws PATH_UNUSABLE if no run has begun in the folder */
export async function expectRun(folder: string): Promise<void> {
  const paths = runPaths(folder);
  if (!(await isFile(paths.journal)))
    throw new TrainerError('PATH_UNUSABLE', `${paths.folder}: expected a run folder, found no journal in it`);
}

/** The resolved configuration of a run, YAML. @throws PATH_UNUSABLE */
export async function readRunConfig(paths: RunPaths): Promise<string> {
  try {
    return (await readSmallFile(paths.config)).toString('utf8');
  } catch (error) {
    throw toStorageError(error, 'read', paths.config);
  }
}

export type ResumeTarget =
  | { readonly kind: 'run'; readonly runFolder: string }
  | { readonly kind: 'checkpoint'; readonly checkpointFolder: string; readonly step: number };

/**
 * The meaning of `--resume PATH`: a run folder continues in that folder; a new run folder starts from a checkpoint folder.
 * @throws PATH_UNUSABLE where the path is neither, with what was expected and found
 */
export async function resolveResume(path: string): Promise<ResumeTarget> {
  const root = resolve(path);
  if (await isFile(join(root, 'manifest.json'))) {
    const step = stepOfFolder(root);
    if (step === undefined)
      throw new TrainerError(
        'PATH_UNUSABLE',
        `--resume ${root}: a checkpoint folder must keep its name step-<n>, as it was published`,
      );
    return { kind: 'checkpoint', checkpointFolder: root, step };
  }
  if (await isFile(join(root, 'config.yaml'))) return { kind: 'run', runFolder: root };
  throw new TrainerError(
    'PATH_UNUSABLE',
    `--resume ${root}: expected a run folder (with config.yaml) or a checkpoint folder (step-<n>, with manifest.json); ` +
      `found ${await describePath(root)}`,
  );
}

/**
 * Checks that a file can be written in a folder, and that its disk has the free space.
 * @throws PATH_UNUSABLE, DISK_FULL with the numbers
 */
export async function checkFreeSpace(folder: string, requiredBytes: number): Promise<void> {
  const probe = join(folder, `.probe-${process.pid}-${randomUUID()}`);
  try {
    const write = async (file: FileHandle): Promise<void> => {
      await file.writeFile('exmix');
      await file.sync();
    };
    await withFile(probe, 'wx', write).finally(() => rm(probe, { force: true }));
    const { bavail, bsize } = await statfs(folder);
    const freeBytes = bavail * bsize;
    if (freeBytes < requiredBytes)
      throw new TrainerError(
        'DISK_FULL',
        `${folder}: the run needs ${requiredBytes} B for its checkpoints, ${freeBytes} B are free; ` +
          'free space there, keep fewer checkpoints, or give another folder',
      );
  } catch (error) {
    throw toStorageError(error, 'write in', folder);
  }
}

/** Files in a run folder and in its folders that exmix appends to, cuts or replaces while they are open. */
const WRITTEN_FILES =
  /^(?:journal(?:\.own)?|coordinator\.jsonl|lock|segment-.*\.ledger(?:\.own)?|local-\d+\.(?:log|json))$/u;

/**
 * The folder may come from a stranger. A link in it must not make exmix write into another file of the user, nor prune the checkpoints of
 * another run; a FIFO must not block it. A link of a whole folder to another disk is fine.
 * @throws PATH_UNUSABLE
 */
async function checkEntries({ folder, checkpoints, ledger }: RunPaths): Promise<void> {
  const folders = [folder, checkpoints, ledger, join(folder, WORKERS_FOLDER)];
  for (const place of folders) {
    try {
      const target = await realpath(place);
      if (
        place !== folder &&
        target !== join(await realpath(folder), basename(place)) &&
        (await isRunFolder(dirname(target)))
      )
        throw new TrainerError(
          'PATH_UNUSABLE',
          `${place} is a link into another run, ${target}; replace the link by a folder of its own`,
        );
      for (const entry of await readdir(place, { withFileTypes: true }))
        // A folder of that name cannot be opened as a file, which is seen then.
        if (WRITTEN_FILES.test(entry.name) && !entry.isFile() && !entry.isDirectory())
          throw new TrainerError(
            'PATH_UNUSABLE',
            `${join(place, entry.name)}: expected a regular file, found ${entry.isSymbolicLink() ? 'a symbolic link' : 'a file of another kind'}; remove it if you know what it is`,
          );
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw toStorageError(error, 'read', place);
    }
  }
}

async function checkFolder(paths: RunPaths, lock: RunLock, requiredBytes: number): Promise<Omit<RunFolder, 'origin'>> {
  await makeFolder(paths.checkpoints);
  const removed = await removeLeftovers(paths.checkpoints, UNFINISHED_PREFIXES);
  await checkFreeSpace(paths.checkpoints, requiredBytes);
  const notes = removed.map((path) => `removed ${path}, which a killed run left unfinished`);
  if (lock.takenOver !== undefined) notes.unshift(lock.takenOver);
  return { ...paths, lock, notes };
}

/** The time in the name of a run folder: `20261123-050548`, UTC. */
export function folderTime(wallMs: number): string {
  const [date = '', time = ''] = new Date(wallMs).toISOString().split('T');
  return `${date.replaceAll('-', '')}-${time.slice(0, 8).replaceAll(':', '')}`;
}

/** Two runs of one name in one second: the second gets `-2`. */
async function makeNewFolder(parent: string, base: string): Promise<Pick<RunFolder, 'folder' | 'origin'>> {
  await makeFolder(parent);
  for (let attempt = 1; ; attempt++) {
    const path = attempt === 1 ? base : `${base}-${attempt}`;
    try {
      await mkdir(path);
      await syncFolder(parent);
      return { folder: path, origin: 'made' };
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw toStorageError(error, 'make', path);
    }
  }
}

async function makeEmptyFolder(path: string): Promise<Pick<RunFolder, 'folder' | 'origin'>> {
  const isMade = await makeFolder(path);
  const [found] = await readdir(path);
  if (found === undefined) return { folder: path, origin: isMade ? 'made' : 'empty' };
  throw new TrainerError(
    'PATH_UNUSABLE',
    `run folder ${path}: expected a new or empty folder, found ${found} in it; continue that run with --resume, or give another folder`,
  );
}

/** @returns false if it was there */
async function makeFolder(path: string): Promise<boolean> {
  try {
    return (await mkdir(path, { recursive: true })) !== undefined;
  } catch (error) {
    throw toStorageError(error, 'make', path);
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

async function describePath(path: string): Promise<string> {
  try {
    return (await stat(path)).isDirectory() ? 'a folder with neither' : 'a file';
  } catch (error) {
    return systemCode(error) === 'ENOENT'
      ? 'nothing there'
      : `something unreadable (${systemCode(error) ?? 'unknown'})`;
  }
}
