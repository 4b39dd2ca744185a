/**
 * The vocabulary of bytes, as ByT5 has it (arXiv 2105.13626): no file, no training. The id of a byte of UTF-8 is its value + 3.
 *
 * Definitions: pad 0, EOS 1, unk 2, bytes 3 to 258. Sentinels have no ids of their own: `<extra_id_0>` is 258, the others follow downwards, as in
 * ByT5's training (seqio.ByteVocabulary without extra ids). The table of a published ByT5 has 384 rows; ids from 259 on mean nothing.
 * Sources: seqio/vocabularies.py (ByteVocabulary), transformers ByT5Tokenizer.
 */
import { createHash } from 'node:crypto';
import { BYTE_VOCABULARY } from '../../shared/byte-vocabulary.ts';
import type { ExtraFile } from '../../shared/checkpoint/extra-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { extraIdOf } from './extra-ids.ts';
import { MAX_TEXT_UNITS } from './normalizer.ts';
import { EOS_ID, PAD_ID, UNK_ID } from './unigram-model.ts';

const FIRST_BYTE_ID = 3;
const NUM_BYTES = 256;
const SPECIAL_PIECES = ['<pad>', '</s>', '<unk>'] as const;
/** Class of Transformers, in tokenizer_config.json. */
export const BYT5_CLASS = 'ByT5Tokenizer';
/** U+FFFD, which a decoder also writes for malformed bytes. */
const REPLACEMENT = '\uFFFD';

/** A `Tokenizer` (tokenizer.ts, which makes it). */
export class ByteTokenizer {
  readonly vocabSize = FIRST_BYTE_ID + NUM_BYTES;
  readonly numPieces = FIRST_BYTE_ID + NUM_BYTES;
  readonly numExtraIds: number;
  readonly padId = PAD_ID;
  readonly eosId = EOS_ID;
  readonly unkId = UNK_ID;
  readonly hash: string;

  /** @throws CONFIG_INVALID for more sentinels than bytes */
  constructor(numExtraIds: number) {
    if (numExtraIds > NUM_BYTES)
      throw new TrainerError(
        'CONFIG_INVALID',
        `numExtraIds: expected at most ${NUM_BYTES} with the vocabulary of bytes, whose sentinels are ids of bytes, got ${numExtraIds}`,
      );
    this.numExtraIds = numExtraIds;
    this.hash = createHash('sha256').update(`${BYTE_VOCABULARY}\nextra ids: ${numExtraIds}\n`).digest('hex');
  }

  encode(text: string): number[] {
    return Array.from(this.#bytesOf(text), (byte) => byte + FIRST_BYTE_ID);
  }

  encodeInto(text: string, out: Int32Array, at: number): number {
    const bytes = this.#bytesOf(text);
    if (bytes.length <= out.length - at) for (let i = 0; i < bytes.length; i++) out[at + i] = bytes[i]! + FIRST_BYTE_ID;
    return bytes.length;
  }

  /** Bytes that are no UTF-8 are left out, as by ByT5Tokenizer. */
  decode(ids: ArrayLike<number>): string {
    const bytes = Buffer.from(
      Array.from(ids)
        .map((id) => id - FIRST_BYTE_ID)
        .filter((byte) => byte >= 0 && byte < NUM_BYTES),
    );
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    const own = Buffer.from(REPLACEMENT);
    const parts: string[] = [];
    for (let from = 0; from <= bytes.length;) {
      const found = bytes.indexOf(own, from);
      const end = found < 0 ? bytes.length : found;
      parts.push(decoder.decode(bytes.subarray(from, end)).replaceAll(REPLACEMENT, ''));
      from = end + own.length;
      if (found < 0) break;
    }
    return parts.join(REPLACEMENT);
  }

  normalize(text: string): string {
    return text;
  }

  sentinelId(n: number): number {
    if (!Number.isInteger(n) || n < 0 || n >= this.numExtraIds)
      throw new TrainerError('INTERNAL', `sentinel ${n}: the tokenizer has ${this.numExtraIds} extra ids`);
    return this.vocabSize - 1 - n;
  }

  idOf(piece: string): number | undefined {
    const special = SPECIAL_PIECES.findIndex((name) => name === piece);
    if (special >= 0) return special;
    const [, hex] = /^<0x([0-9A-F]{2})>$/u.exec(piece) ?? [];
    if (hex !== undefined) return Number.parseInt(hex, 16) + FIRST_BYTE_ID;
    const n = extraIdOf(piece);
    return n === undefined || n >= this.numExtraIds ? undefined : this.sentinelId(n);
  }

  pieceOf(id: number): string {
    if (!Number.isInteger(id) || id < 0 || id >= this.vocabSize)
      throw new TrainerError('INTERNAL', `id ${id}: the tokenizer has ids from 0 to ${this.vocabSize - 1}`);
    const byte = id - FIRST_BYTE_ID;
    return SPECIAL_PIECES[id] ?? `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
  }

  #bytesOf(text: string): Uint8Array {
    if (text.length > MAX_TEXT_UNITS)
      throw new TrainerError(
        'SOURCE_MALFORMED',
        `expected a text of at most ${MAX_TEXT_UNITS} UTF-16 units, got ${text.length}`,
      );
    return Buffer.from(text, 'utf8');
  }
}

/** The file by which Transformers, and exmix, know that a folder's model reads bytes. */
export const byteTokenizerFile: ExtraFile = {
  name: 'tokenizer_config.json',
  text: `${JSON.stringify({ tokenizer_class: BYT5_CLASS, eos_token: '</s>', pad_token: '<pad>', unk_token: '<unk>', extra_ids: 125 }, null, 2)}\n`,
};
