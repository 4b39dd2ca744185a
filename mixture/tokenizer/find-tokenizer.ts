/** The tokenizer in a folder with a model. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';

/** In this order: SentencePiece's own file has everything that the other one may lack. */
const TOKENIZER_FILES = ['spiece.model', 'tokenizer.json'] as const;

/** Path of the tokenizer of a folder of Transformers or a checkpoint; undefined: it has none. @throws PATH_UNUSABLE */
export async function findTokenizer(folder: string): Promise<string | undefined> {
  try {
    const files = await readdir(folder);
    const found = TOKENIZER_FILES.find((name) => files.includes(name));
    return found === undefined ? undefined : join(folder, found);
  } catch (error) {
    throw toStorageError(error, 'read', folder);
  }
}

/** @throws PATH_UNUSABLE for a folder without a tokenizer */
export async function expectTokenizer(folder: string): Promise<string> {
  const found = await findTokenizer(folder);
  if (found !== undefined) return found;
  throw new TrainerError(
    'PATH_UNUSABLE',
    `expected ${TOKENIZER_FILES.join(' or ')} in ${folder}, found neither; give the tokenizer by --tokenizer`,
  );
}
