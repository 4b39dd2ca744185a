/** Which examples are decoded together. Pure. */

import { MAX_BATCH_EXAMPLES } from '../shared/protocol/messages.ts';

/** Lengths of rows are rounded up to a multiple of it, tokens. */
const LENGTH_STEP = 16;

export interface ExampleBatch {
  /** Indices into the given lengths. */
  readonly examples: readonly number[];
  /** Of each row, tokens. */
  readonly inputsLength: number;
}

/**
 * Batches of examples of one rounded length, longest first: the first batch shows whether memory suffices. A row is as long as its own input
 * wants, so its numbers do not depend on the other inputs.
 * @param lengths input tokens of each example @param batchTokens most rows × length of a batch; a single example may have more
 * @param maxRows most examples of a batch
 */
export function planBatches(
  lengths: readonly number[],
  batchTokens: number,
  maxRows = MAX_BATCH_EXAMPLES,
): ExampleBatch[] {
  const padded = lengths.map(paddedLength);
  const order = padded.map((_, example) => example).sort((a, b) => padded[b]! - padded[a]! || a - b);
  const batches: ExampleBatch[] = [];
  for (let start = 0; start < order.length;) {
    const inputsLength = padded[order[start]!]!;
    const numRows = Math.max(1, Math.min(maxRows, Math.floor(batchTokens / inputsLength)));
    const examples = order.slice(start, start + numRows).filter((example) => padded[example] === inputsLength);
    batches.push({ examples, inputsLength });
    start += examples.length;
  }
  return batches;
}

/** Length of a row of so many tokens. */
export function paddedLength(numTokens: number): number {
  return LENGTH_STEP * Math.max(1, Math.ceil(numTokens / LENGTH_STEP));
}
