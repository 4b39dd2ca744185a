/**
 * The tokenizer files of a folder with a model: the tokenizer's own file under the name that Transformers looks for, and the files by which
 * Transformers loads it without the library sentencepiece (hugging-face-files.ts).
 */
import { BYTE_VOCABULARY } from '../../shared/byte-vocabulary.ts';
import type { ExtraFile } from '../../shared/checkpoint/extra-file.ts';
import { byteTokenizerFile } from './byte-tokenizer.ts';
import { huggingFaceFiles } from './hugging-face-files.ts';
import { readTokenizerFile, readTokenizerModel } from './tokenizer.ts';

/**
 * @param path of a spiece.model or tokenizer.json, under any name, or BYTE_VOCABULARY; a file is copied with its bytes, so the hash of the tokenizer stays
 * @throws PATH_UNUSABLE, TOKENIZER_INVALID
 */
export async function checkpointTokenizer(path: string, numExtraIds = 100): Promise<readonly ExtraFile[]> {
  if (path === BYTE_VOCABULARY) return [byteTokenizerFile];
  const file = readTokenizerModel(await readTokenizerFile(path), path, numExtraIds);
  const isJson = file.format === 'json';
  const own = isJson ? 'tokenizer.json' : 'spiece.model';
  const made = huggingFaceFiles(file.model, isJson ? file.numExtraIds : numExtraIds);
  const derived = made.filter(({ name }) => name !== own);
  return [{ name: own, source: path }, ...derived];
}
