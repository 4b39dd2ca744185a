/** The folder of the model that a path means: of a run its newest checkpoint. */
import { isRunFolder } from '../coordinator/run-folder/run-folder.ts';
import { findLatestCheckpoint } from '../shared/checkpoint/read.ts';
import { TrainerError } from '../shared/errors.ts';
import { standardError } from '../shared/standard-streams.ts';

/** The newest checkpoint of a run; another folder as it is. @throws PATH_UNUSABLE */
export async function findModelFolder(path: string, signal: AbortSignal): Promise<string> {
  if (!(await isRunFolder(path))) return path;
  const { latest, skipped } = await findLatestCheckpoint(path, signal);
  for (const { path: damaged, reason } of skipped) standardError.write(`${damaged} is left out: ${reason}\n`);
  if (latest !== undefined) return latest.path;
  throw new TrainerError('PATH_UNUSABLE', `${path}: expected a checkpoint in the run folder, found none that is whole`);
}
