/**
 * The model of a config that begins with the parameters of a folder (`init.from`): where the config leaves `model` out, or says `from init`,
 * the folder's own config tells it.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { Tree } from '../../shared/config/load-config.ts';
import { standardError } from '../../shared/standard-streams.ts';
import { outlineModel } from '../../worker/model/read-model.ts';
import { findModelFolder } from '../model-folder.ts';

const FROM_INIT = 'from init';

/** @param tree a config before its check @throws CONFIG_INVALID; PATH_UNUSABLE and the errors of outlineModel for the folder */
export async function fillModel(tree: Tree): Promise<Tree> {
  const { model, init } = tree;
  if (model !== undefined && model !== FROM_INIT) return tree;
  const from = typeof init === 'object' && init !== null && 'from' in init ? init.from : undefined;
  if (typeof from !== 'string') {
    if (model === undefined) return tree; // the check of the config says what is missing
    throw new TrainerError(
      'CONFIG_INVALID',
      `model: ${FROM_INIT}: expected init.from with a folder: add --init FOLDER`,
    );
  }
  const folder = await findModelFolder(from, (note) => standardError.write(`${note}\n`));
  const { config } = await outlineModel(folder);
  return { ...tree, model: config };
}
