/** The folder with a model that a path on the command line means. */
import { isRunFolder } from '../coordinator/run-folder/run-folder.ts';
import { findLatestCheckpoint } from '../shared/checkpoint/read.ts';
import { TrainerError } from '../shared/errors.ts';

/**
 * The newest checkpoint of a run; another folder as it is.
 * @param onNote receives a sentence for each newer checkpoint that is damaged
 * @throws PATH_UNUSABLE, ABORTED
 */
export async function findModelFolder(
  path: string,
  onNote: (sentence: string) => void,
  signal?: AbortSignal,
): Promise<string> {
  if (!(await isRunFolder(path))) return path;
  const { latest, skipped } = await findLatestCheckpoint(path, signal);
  for (const { path: damaged, reason } of skipped) onNote(`${damaged} is left out: ${reason}`);
  if (latest !== undefined) return latest.path;
  throw new TrainerError('PATH_UNUSABLE', `${path}: expected a checkpoint in the run folder, found none that is whole`);
}
