/** What a folder says about the run that made its model. */
import { join, resolve } from 'node:path';
import { isRunFolder, runPaths } from '../../coordinator/run-folder/run-folder.ts';
import { statIfThere } from '../../shared/atomic-file.ts';
import { MANIFEST_FILE, RUN_FILE } from '../../shared/checkpoint/layout.ts';
import { readRunRecord } from '../../shared/checkpoint/read.ts';
import { loadTree, type Tree } from '../../shared/config/load-config.ts';

export interface SourceOfModel {
  /** The config that the model was trained with; undefined: a model of Transformers. */
  readonly config: Tree | undefined;
  /** The file that holds it. */
  readonly file: string | undefined;
}

/** @throws PATH_UNUSABLE, CONFIG_INVALID, CHECKPOINT_CORRUPT */
export async function readSourceOfModel(folder: string): Promise<SourceOfModel> {
  if (await isRunFolder(folder)) {
    const file = runPaths(folder).config;
    return { config: await loadTree(file, []), file };
  }
  const root = resolve(folder);
  const isCheckpoint =
    (await statIfThere(join(root, MANIFEST_FILE))) !== undefined &&
    (await statIfThere(join(root, RUN_FILE))) !== undefined;
  if (!isCheckpoint) return { config: undefined, file: undefined };
  return { config: (await readRunRecord(root)).config, file: join(root, RUN_FILE) };
}
