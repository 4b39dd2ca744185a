/** Facts of a prepared mixture for listings, read from its manifests alone. */
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { readIfThere, readSmallFile } from '../../shared/small-file.ts';
import {
  MANIFEST_FILE,
  MAX_MANIFEST_BYTES,
  MIXTURE_FILE,
  parseMixtureManifest,
  parseTaskManifest,
  type TaskManifest,
} from './manifest.ts';

export interface PreparedFacts {
  readonly hash: string;
  /** By task name, in the order of the mixture. */
  readonly tasks: ReadonlyMap<string, TaskManifest>;
}

/** @returns undefined if the folder holds no finished mixture @throws SHARD_CORRUPT, PATH_UNUSABLE */
export async function readManifests(folder: string): Promise<PreparedFacts | undefined> {
  const path = join(folder, MIXTURE_FILE);
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  const { manifest, hash } = parseMixtureManifest(text, path);
  const tasks = new Map<string, TaskManifest>();
  for (const { name } of manifest.tasks) {
    const manifestPath = join(folder, name, MANIFEST_FILE);
    const content = await readSmallFile(manifestPath, MAX_MANIFEST_BYTES).catch((error: unknown) => {
      throw toStorageError(error, 'read', manifestPath);
    });
    tasks.set(name, parseTaskManifest(content.toString('utf8'), manifestPath));
  }
  return { hash, tasks };
}
