/** Removes an installed engine. Processes that run on it go on: their libraries are mapped. */
import { rename } from 'node:fs/promises';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { enginesFolder, listInstalledEngines } from '../../shared/installed-engine.ts';
import { nearestNames } from '../../shared/nearest-names.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';

/**
 * Moved aside first, so that a reader finds a whole engine or none.
 * @returns the bytes its manifest counts @throws NAME_UNKNOWN, PATH_UNUSABLE
 */
export async function removeEngine(home: string, id: string): Promise<number> {
  const folders = await listInstalledEngines(home);
  const found = folders.find((folder) => folder.id === id);
  if (found === undefined) {
    const ids = folders.map((folder) => folder.id);
    const near = nearestNames(id, ids);
    const known = ids.length === 0 ? 'none is installed' : `installed: ${ids.join(', ')}`;
    const hint = near.length > 0 ? `did you mean ${near.join(' or ')}?` : known;
    throw new TrainerError('NAME_UNKNOWN', `there is no engine ${id} in ${enginesFolder(home)}; ${hint}`);
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
