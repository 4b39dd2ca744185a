/**
 * `<workerId>.json` beside a worker's log: the identity of its process and the URL that it dials. From it the next `exmix train` of the
 * run folder learns which workers are left. It exists from the start of the process until the worker has ended and is not restarted.
 *
 * A run folder may be a stranger's, and its files name processes to adopt or to kill: only a file with a seal of this user's exmix for its place
 * counts (shared/home-secret.ts).
 *
 * Assumes one writer, the owner of the run folder. If the parent is killed in the milliseconds before the file is written, the worker is
 * not adopted: it exits when no coordinator accepts it.
 */
import { readdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile, toStorageError } from '../../shared/atomic-file.ts';
import { isSealOf, sealOf } from '../../shared/home-secret.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { processIdentitySchema } from '../../shared/process-identity.ts';

const workerFileSchema = z.strictObject({ process: processIdentitySchema, url: z.string(), seal: z.string() });

export type WorkerFile = Omit<z.output<typeof workerFileSchema>, 'seal'>;

/** Id of the worker with this index; its files have the same name. */
export function localWorkerId(index: number): string {
  return `local-${index}`;
}

/** @throws PATH_UNUSABLE, DISK_FULL */
export async function writeWorkerFile(folder: string, index: number, file: WorkerFile): Promise<void> {
  const { process, url } = file;
  const seal = await sealOf(await sealed(folder, index, file));
  await replaceFile(pathOf(folder, index), `${JSON.stringify({ process, url, seal }, undefined, 2)}\n`);
}

/** @throws PATH_UNUSABLE */
export async function removeWorkerFile(folder: string, index: number): Promise<void> {
  const path = pathOf(folder, index);
  try {
    await rm(path, { force: true });
  } catch (error) {
    throw toStorageError(error, 'remove', path);
  }
}

/**
 * Reads all worker files, by index; null for a file in another format, or without our seal. Removes partial files of killed writers.
 * @throws PATH_UNUSABLE
 */
export async function readWorkerFiles(folder: string): Promise<ReadonlyMap<number, WorkerFile | null>> {
  const files = new Map<number, WorkerFile | null>();
  for (const name of await namesIn(folder)) {
    const [, digits, rest] = /^local-(\d+)\.json(\.new-.*)?$/u.exec(name) ?? [];
    if (rest !== undefined) await rm(join(folder, name), { force: true });
    else if (digits !== undefined) {
      const index = Number(digits);
      files.set(index, await parse(await readIfThere(join(folder, name)), folder, index));
    }
  }
  return files;
}

function pathOf(folder: string, index: number): string {
  return join(folder, `${localWorkerId(index)}.json`);
}

async function parse(text: string | undefined, folder: string, index: number): Promise<WorkerFile | null> {
  try {
    const { seal, ...file } = workerFileSchema.parse(JSON.parse(text ?? ''));
    return (await isSealOf(seal, await sealed(folder, index, file))) ? file : null;
  } catch {
    return null;
  }
}

async function sealed(folder: string, index: number, { process, url }: WorkerFile): Promise<readonly string[]> {
  const { pid, host, bootId, processStart } = process;
  return ['worker', pathOf(await realpath(folder), index), String(pid), host, bootId ?? '', processStart ?? '', url];
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    throw toStorageError(error, 'read', folder);
  }
}
