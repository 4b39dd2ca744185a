/**
 * Ids → text as SentencePiece does it: pieces joined, `▁` printed as a space, those at the start of the text removed, control pieces
 * (pad, EOS) invisible, `<unk>` printed as the model says, byte pieces joined into characters.
 *
 * Source: sentencepiece_processor.cc (Decode) of google/sentencepiece.
 */
import { SPACE_SYMBOL, UNK_ID, type UnigramModel, byteOfPiece } from './unigram-model.ts';

const REPLACEMENT = '\ufffd';
const utf8Strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class PieceDecoder {
  readonly #surfaces: readonly string[];
  /** The byte of a byte piece, -1 for any other. */
  readonly #bytes: Int16Array;
  /** Ids whose text is printed as it is, spaces at the start of the text included. */
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
    let wasSpaceTaken = false;
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
      if (wasSpaceTaken || text !== '') isAtStart = false;
      let surface = this.#surfaces[id]!;
      wasSpaceTaken = false;
      if (isAtStart && this.#stripsFirst && this.#isVerbatim[id] === 0 && surface.startsWith(' ')) {
        surface = surface.slice(1);
        // Where extra spaces are removed, so is the next one at the start.
        wasSpaceTaken = !this.#stripsAll;
      }
      text += surface;
    }
    return text + textOfBytes(bytes);
  }
}

/** Bytes as UTF-8; each byte that is not part of a valid character becomes one U+FFFD. */
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
    return undefined; // the bytes of a generated text need not be UTF-8
  }
}
