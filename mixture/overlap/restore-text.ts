/** The text of a span-corrupted example: the spans of the targets in the places of their sentinels. */
import type { SetExample } from '../evaluation-sets/set-record.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

export function restoreText(
  { inputIds, targetIds }: Pick<SetExample, 'inputIds' | 'targetIds'>,
  tokenizer: Pick<Tokenizer, 'vocabSize' | 'numExtraIds' | 'eosId' | 'decode'>,
): string {
  const { vocabSize, numExtraIds, eosId } = tokenizer;
  const isSentinel = (id: number): boolean => id >= vocabSize - numExtraIds;
  const spans = new Map<number, number[]>();
  let span: number[] = [];
  for (const id of targetIds)
    if (isSentinel(id)) {
      span = [];
      spans.set(id, span);
    } else if (id !== eosId) span.push(id);
  const ids = inputIds.filter((id) => id !== eosId).flatMap((id) => (isSentinel(id) ? (spans.get(id) ?? []) : [id]));
  return tokenizer.decode(ids);
}
