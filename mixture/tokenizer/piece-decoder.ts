/**
 * Ids → text, as SentencePiece does it. Pieces are joined; `▁` becomes a space; spaces at the start of the text are
 * removed. Control pieces (pad, EOS) are invisible. `<unk>` becomes the text that the model names. Byte pieces are
 * joined into characters.
 *
 * Source: sentencepiece_processor.cc (Decode) of google/sentencepiece.
 */
import { SPACE_SYMBOL, UNK_ID, type UnigramModel, byteOfPiece } from './unigram-model.ts';

const REPLACEMENT = '\ufffd';
const utf8Strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class PieceDecoder {
  readonly #surfaces: readonly string[];
  /** The byte of a byte piece. -1 for any other piece. */
  readonly #bytes: Int16Array;
  /** Ids whose text is printed unchanged, also with spaces at the start of the text. */
  readonly #isVerbatim: Uint8Array;
  readonly #stripsFirst: boolean;
  readonly #stripsAll: boolean;

  constructor(model: UnigramModel) {
    const { normalizer, pieces } = model;
    this.#stripsAll = normalizer.removeExtraWhitespaces;
    this.#stripsFirst = normalizer.addDummyPrefix || normalizer.removeExtraWhitespaces;
    this.#bytes = Int16Array.from(pieces, ({ kind, text }) => (kind === 'byte' ? byteOfPiece(text)! : -1));
    this.#isVerbatim = Uint8Array.from(pieces, ({ kind }) => (kind === 'control' || kind === 'unknown' ? 1 : 0));
    this.#surfaces = pieces.map(({ kind, text }) => {
      if (kind === 'control') return '';
      return kind === 'unknown' ? model.unkSurface : text.replaceAll(SPACE_SYMBOL, ' ');
    });
  }

  /** An id outside the vocabulary decodes as `<unk>`, as in SeqIO. */
  decode(ids: ArrayLike<number>): string {
    let text = '';
    let isAtStart = true;
    let wasSpaceRemoved = false;
    let bytes: number[] = [];
    for (let i = 0; i < ids.length; i++) {
      const given = ids[i]!;
      const id = Number.isInteger(given) && given >= 0 && given < this.#surfaces.length ? given : UNK_ID;
      if (this.#bytes[id]! >= 0) {
        bytes.push(this.#bytes[id]!);
        continue;
      }
      text += textOfBytes(bytes);
      if (bytes.length > 0) bytes = [];
      if (wasSpaceRemoved || text !== '') isAtStart = false;
      let surface = this.#surfaces[id]!;
      wasSpaceRemoved = false;
      if (isAtStart && this.#stripsFirst && this.#isVerbatim[id] === 0 && surface.startsWith(' ')) {
        surface = surface.slice(1);
        // If extra spaces are removed, the next one at the start is removed too.
        wasSpaceRemoved = !this.#stripsAll;
      }
      text += surface;
    }
    return text + textOfBytes(bytes);
  }
}

/** Decodes bytes as UTF-8. Each byte that is not part of a valid character becomes one U+FFFD. */
function textOfBytes(bytes: readonly number[]): string {
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at]!;
    const length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    const character = length === 0 ? undefined : decodeStrictly(bytes.slice(at, at + length));
    text += character ?? REPLACEMENT;
    at += character === undefined ? 1 : length;
  }
  return text;
}

function decodeStrictly(bytes: readonly number[]): string | undefined {
  try {
    return utf8Strict.decode(Uint8Array.from(bytes));
  } catch {
    return undefined; // the bytes of a generated text may be invalid UTF-8
  }
}
