/**
 * T5's rule for long documents: of a document of n tokens at most one chunk of MAX_CHUNK_TOKENS is used, chosen among the
 * ⌈n / MAX_CHUNK_TOKENS⌉ aligned ones with equal chances (t5 preprocessors, `select_random_chunk` with max_length 65,536).
 *
 * The draw is keyed by where the document comes from, so it does not depend on who prepares it, when, or in which order.
 */
import { hashName, RandomStream } from '../../shared/random.ts';

/** Tokens of a document that are used at most. */
export const MAX_CHUNK_TOKENS = 65_536;

const DOCUMENT_CHUNK = hashName('document-chunk');

export interface DocumentOrigin {
  readonly task: string;
  /** The file's name as in manifests. */
  readonly file: string;
  readonly row: number;
}

/**
 * @param numTokens of the whole document, ≥ 1
 * @returns [from, to) of the chunk that is used
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
