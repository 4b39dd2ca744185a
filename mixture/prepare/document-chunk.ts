/**
 * T5's rule for long documents: of a document of n tokens at most one chunk of MAX_CHUNK_TOKENS is used. The ⌈n /
 * MAX_CHUNK_TOKENS⌉ aligned chunks have equal chances (t5 preprocessors, `select_random_chunk` with max_length 65,536).
 *
 * The random choice is keyed by the origin of the document. So it does not depend on the process, the time or the order
 * of preparing.
 */
import { hashName, RandomStream } from '../../shared/random.ts';

/** Largest number of tokens that are used of a document. */
export const MAX_CHUNK_TOKENS = 65_536;

const DOCUMENT_CHUNK = hashName('document-chunk');

export interface DocumentOrigin {
  readonly task: string;
  /** The file name in manifests. */
  readonly file: string;
  readonly row: number;
}

/**
 * @param numTokens of the whole document, ≥ 1
 * @returns [from, to) of the chunk to use
 */
export function chooseChunk(
  numTokens: number,
  { task, file, row }: DocumentOrigin,
  maxTokens = MAX_CHUNK_TOKENS,
): { readonly from: number; readonly to: number } {
  const numChunks = Math.ceil(numTokens / maxTokens);
  if (numChunks <= 1) return { from: 0, to: numTokens };
  const random = new RandomStream([DOCUMENT_CHUNK, hashName(task), hashName(file), row]);
  const from = random.nextBelow(numChunks) * maxTokens;
  return { from, to: Math.min(numTokens, from + maxTokens) };
}
