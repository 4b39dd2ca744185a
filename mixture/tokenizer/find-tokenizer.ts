/** The tokenizer in a folder with a model. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { BYTE_VOCABULARY } from '../../shared/byte-vocabulary.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { BYT5_CLASS } from './byte-tokenizer.ts';

/** In this order: SentencePiece's own file has everything that the other one may lack. */
const TOKENIZER_FILES = ['spiece.model', 'tokenizer.json'] as const;

/** Says that the tokenizer has no file: that of ByT5. */
const CONFIG_FILE = 'tokenizer_config.json';

/**
 * Path of the tokenizer of a folder of Transformers or a checkpoint; BYTE_VOCABULARY for ByT5; undefined: it has none.
 * @throws PATH_UNUSABLE
 */
export async function findTokenizer(folder: string): Promise<string | undefined> {
  try {
    const files = await readdir(folder);
    const found = TOKENIZER_FILES.find((name) => files.includes(name));
    if (found !== undefined) return join(folder, found);
    const isOfBytes = files.includes(CONFIG_FILE) && (await classOf(join(folder, CONFIG_FILE))) === BYT5_CLASS;
    return isOfBytes ? BYTE_VOCABULARY : undefined;
  } catch (error) {
    throw toStorageError(error, 'read', folder);
  }
}

/** The class of Transformers that the file names; undefined where it names none. */
async function classOf(path: string): Promise<unknown> {
  const text = (await readSmallFile(path)).toString('utf8');
  try {
    const config: unknown = JSON.parse(text);
    return typeof config === 'object' && config !== null && 'tokenizer_class' in config
      ? config.tokenizer_class
      : undefined;
  } catch {
    return undefined; // such a folder has no tokenizer that is known
  }
}

/** @throws PATH_UNUSABLE for a folder without a tokenizer */
export async function expectTokenizer(folder: string): Promise<string> {
  const found = await findTokenizer(folder);
  if (found !== undefined) return found;
  throw new TrainerError(
    'PATH_UNUSABLE',
    `expected ${TOKENIZER_FILES.join(' or ')} in ${folder}, or ${CONFIG_FILE} of ByT5, found none; give the tokenizer by --tokenizer (ByT5: --tokenizer ${BYTE_VOCABULARY})`,
  );
}
