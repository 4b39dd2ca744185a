/**
 * Writes a file of a prepared mixture atomically. It is first written in a partial folder, whose name says which
 * process owns it. The next process removes partial folders of dead processes, but not those of another host.
 */
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';

/** Writes nothing if the file already has this content. @throws DISK_FULL, PATH_UNUSABLE */
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
