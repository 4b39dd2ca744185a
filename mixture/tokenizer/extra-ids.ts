/**
 * T5's sentinels `<extra_id_0>`, `<extra_id_1>`, …: ids above the pieces of the model. `<extra_id_0>` is the highest.
 *
 * SeqIO adds them as user-defined pieces `▁<extra_id_N>`. So a text contains one only at the start of a word:
 * `a<extra_id_0>` is ordinary text. Transformers recognizes them anywhere. We follow SeqIO, which made the data of T5
 * and ExT5.
 * Source: seqio/vocabularies.py (SentencePieceVocabulary, extra_ids, reverse_extra_ids).
 */
import { TrainerError } from '../../shared/errors.ts';
import { type Piece, SPACE_SYMBOL } from './unigram-model.ts';

/** A larger number is an error: T5 has 100. */
export const MAX_EXTRA_IDS = 10_000;

const EXTRA_ID_PIECE = /^\u2581?<extra_id_(\d{1,9})>$/;

/** `<extra_id_7>` or `▁<extra_id_7>` → 7. Undefined for any other text. */
export function extraIdOf(text: string): number | undefined {
  const digits = EXTRA_ID_PIECE.exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The pieces to append to a model, in the order of their ids. */
export function extraIdPieces(numExtraIds: number): Piece[] {
  return Array.from({ length: numExtraIds }, (_, i) => ({
    text: `${SPACE_SYMBOL}<extra_id_${numExtraIds - 1 - i}>`,
    score: 0,
    kind: 'user-defined' as const,
  }));
}

/**
 * Pieces without the extra ids at their end, and the number of extra ids. @throws TOKENIZER_INVALID if they are not in
 * T5's order
 */
export function withoutExtraIds(pieces: readonly Piece[], where: string): { pieces: Piece[]; numExtraIds: number } {
  let numPieces = pieces.length;
  while (numPieces > 0 && extraIdOf(pieces[numPieces - 1]!.text) !== undefined) numPieces--;
  const numExtraIds = pieces.length - numPieces;
  for (let id = numPieces; id < pieces.length; id++) {
    const number = extraIdOf(pieces[id]!.text);
    const expected = pieces.length - 1 - id;
    if (number !== expected) {
      throw new TrainerError(
        'TOKENIZER_INVALID',
        `${where}: expected <extra_id_${expected}> at id ${id}, found ${JSON.stringify(pieces[id]!.text)}; ` +
          'T5 numbers its extra ids downwards: <extra_id_0> is the highest id',
      );
    }
  }
  return { pieces: pieces.slice(0, numPieces), numExtraIds };
}
