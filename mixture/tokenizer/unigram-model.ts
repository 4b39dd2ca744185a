/**
 * A Unigram model as data: its pieces with scores and kinds, the rules of its normalizer, and the checks of both.
 *
 * Definitions: a *piece* is a string of the vocabulary; its index is its id. `▁` (U+2581) stands for a space. Scores
 * are natural logarithms of probabilities, float32.
 */
import { TrainerError } from '../../shared/errors.ts';

/** `unused` pieces have an id but are never used. `byte` pieces stand for one byte of an unknown character. */
export type PieceKind = 'normal' | 'unknown' | 'control' | 'user-defined' | 'unused' | 'byte';

export interface Piece {
  readonly text: string;
  readonly score: number;
  readonly kind: PieceKind;
}

export interface NormalizerSpec {
  readonly name: string;
  /** SentencePiece's compiled rules (charsmap.ts). Empty if there are none. */
  readonly charsmap: Uint8Array;
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
  readonly escapeWhitespaces: boolean;
}

export interface UnigramModel {
  readonly pieces: readonly Piece[];
  readonly normalizer: NormalizerSpec;
  /** Unknown characters become the pieces of their UTF-8 bytes instead of `<unk>`. */
  readonly byteFallback: boolean;
  /** The decoded text of `<unk>`. */
  readonly unkSurface: string;
}

export const SPACE_SYMBOL = '\u2581';
export const DEFAULT_UNK_SURFACE = ' \u2047 ';

export const PAD_ID = 0;
export const EOS_ID = 1;
export const UNK_ID = 2;

const BYTE_PIECE = /^<0x([0-9A-F]{2})>$/;

/** The byte of a byte piece (`<0x0A>`). Undefined for any other text. */
export function byteOfPiece(text: string): number | undefined {
  const digits = BYTE_PIECE.exec(text)?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

/**
 * Checks what later stages rely on: pad, EOS and unk at 0, 1 and 2; unique non-empty pieces; finite scores; all 256
 * byte pieces if bytes represent unknown characters.
 * @throws TOKENIZER_INVALID
 */
export function validateModel(model: UnigramModel, where: string): void {
  const invalid = (problem: string): TrainerError => new TrainerError('TOKENIZER_INVALID', `${where}: ${problem}`);
  const { pieces } = model;
  const special = [
    { id: PAD_ID, name: 'pad', kind: 'control' },
    { id: EOS_ID, name: 'EOS', kind: 'control' },
    { id: UNK_ID, name: 'unk', kind: 'unknown' },
  ] as const;
  for (const { id, name, kind } of special) {
    const piece = pieces[id];
    if (piece?.kind !== kind) {
      const found = piece === undefined ? 'nothing' : `${piece.kind} piece ${JSON.stringify(piece.text)}`;
      throw invalid(
        `expected ${name} (a piece of kind ${kind}) at id ${id}, found ${found}; ` +
          'train the model with pad_id 0, eos_id 1, unk_id 2 and no BOS, as T5 does',
      );
    }
  }
  const matched = new Map<string, number>();
  const reserved = new Map<string, number>();
  const bytes = new Set<number>();
  let numNormal = 0;
  pieces.forEach((piece, id) => {
    if (piece.text === '') throw invalid(`piece ${id} is empty`);
    if (!Number.isFinite(piece.score)) throw invalid(`piece ${id} has score ${piece.score}, expected a finite number`);
    if (piece.kind === 'unknown' && id !== UNK_ID) throw invalid(`a second unknown piece at id ${id}`);
    if (piece.kind === 'normal') numNormal++;
    if (piece.kind === 'byte') {
      const byte = byteOfPiece(piece.text);
      if (byte === undefined || !model.byteFallback) {
        throw invalid(
          `byte piece ${JSON.stringify(piece.text)} at id ${id} is not <0x00>…<0xFF> or byte_fallback is off`,
        );
      }
      bytes.add(byte);
    }
    const isMatched = piece.kind === 'normal' || piece.kind === 'user-defined' || piece.kind === 'unused';
    const seen = isMatched ? matched : reserved;
    const first = seen.get(piece.text);
    if (first !== undefined) throw invalid(`piece ${JSON.stringify(piece.text)} is at id ${first} and at id ${id}`);
    seen.set(piece.text, id);
  });
  if (numNormal === 0) throw invalid('no normal pieces');
  if (model.byteFallback && bytes.size !== 256)
    throw invalid(`byte_fallback needs 256 byte pieces, found ${bytes.size}`);
}
