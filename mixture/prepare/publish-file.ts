/**
 * A file of a prepared mixture, whole or not there. It is made in a partial folder, which says whose it is: what a killed process
 * leaves is removed by the next one, and what a process of another host is making is not.
 */
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere, syncFolder, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';

/** Nothing is written where the file has this content already. @throws DISK_FULL, PATH_UNUSABLE */
export async function publishFile(folder: string, name: string, content: string): Promise<void> {
  const path = join(folder, name);
  if ((await readIfThere(path)) === content) return;
  const partial = await makePartialFolder(folder, 'file');
  try {
    await writeNewFile(join(partial, name), content);
    await rename(join(partial, name), path);
  } catch (error) {
    throw toStorageError(error, 'write', path);
  } finally {
    await dropPartialFolder(partial);
  }
  await syncFolder(folder);
}
