/** Removes an installed engine. Processes that use it continue: their libraries are mapped. */
import { rename } from 'node:fs/promises';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { enginesFolder, listInstalledEngines } from '../../shared/installed-engine.ts';
import { nearestHint } from '../../shared/nearest-names.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';

/**
 * Renames the engine first, so that a reader finds a whole engine or none.
 * @returns the total bytes in its manifest @throws NAME_UNKNOWN, PATH_UNUSABLE
 */
export async function removeEngine(home: string, id: string): Promise<number> {
  const folders = await listInstalledEngines(home);
  const found = folders.find((folder) => folder.id === id);
  if (found === undefined) {
    const ids = folders.map((folder) => folder.id);

    const known = ids.length === 0 ? 'none is installed' : `installed: ${ids.join(', ')}`;
    throw new TrainerError(
      'NAME_UNKNOWN',
      `there is no engine ${id} in ${enginesFolder(home)}; ${nearestHint(id, ids, known)}`,
    );
  }
  const aside = await makePartialFolder(enginesFolder(home), 'removed');
  try {
    await rename(found.folder, aside);
  } catch (error) {
    throw toStorageError(error, 'remove', found.folder);
  } finally {
    await dropPartialFolder(aside);
  }
  return found.engine?.manifest.files.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
}
