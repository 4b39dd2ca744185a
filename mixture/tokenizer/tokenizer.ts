/**
 * The tokenizer of T5: SentencePiece Unigram with extra ids as SeqIO adds them. Ids equal those of the official
 * library.
 *
 * Definitions: *pieces* are those of the model, ids 0 … numPieces − 1. *Extra ids* (sentinels) follow; `<extra_id_0>`
 * is the highest. No EOS is added.
 * Assumptions: one thread uses an instance at a time (it reuses scratch memory). Files are expected to be models, but
 * may be damaged.
 */
import { createHash } from 'node:crypto';
import { BYTE_VOCABULARY } from '../../shared/byte-vocabulary.ts';
import { TrainerError } from '../../shared/errors.ts';
import { describeRefused, HEAD_BYTES, identifyContent, isRefused } from '../sources/identify-content.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { ByteTokenizer } from './byte-tokenizer.ts';
import { MAX_EXTRA_IDS, extraIdOf, extraIdPieces } from './extra-ids.ts';
import { Normalizer } from './normalizer.ts';
import { PieceDecoder } from './piece-decoder.ts';
import { parseSentencePieceModel } from './sentencepiece-file.ts';
import { parseTokenizerJson } from './tokenizer-json.ts';
import { EOS_ID, PAD_ID, SPACE_SYMBOL, UNK_ID, type UnigramModel } from './unigram-model.ts';
import { UnigramEncoder } from './viterbi.ts';

/** Field 1 of ModelProto, the first piece. */
const FIRST_BYTE = 0x0a;

export interface Tokenizer {
  /** Number of pieces and extra ids, before any padding of the embedding table. */
  readonly vocabSize: number;
  readonly numPieces: number;
  readonly numExtraIds: number;
  readonly padId: 0;
  readonly eosId: 1;
  readonly unkId: 2;
  /** SHA-256 (hex) of the file's bytes, or of the name of the vocabulary of bytes, and numExtraIds. It is part of the identity of a mixture. */
  readonly hash: string;
  /** Ids of a text, without EOS. @throws SOURCE_MALFORMED for a text of more than MAX_TEXT_UNITS (normalizer.ts) */
  encode(text: string): number[];
  /**
   * The same without allocation: ids into out[at…).
   * @returns the number of ids of the text. If it exceeds out.length − at, nothing was written: call again with more
   * space.
   */
  encodeInto(text: string, out: Int32Array, at: number): number;
  /** Text of ids. Pad and EOS are invisible; an id outside the vocabulary decodes as unk. */
  decode(ids: ArrayLike<number>): string;
  /** The text that is segmented: SentencePiece's normalizer, with spaces as `▁`. */
  normalize(text: string): string;
  /** Id of `<extra_id_n>`. @throws INTERNAL unless 0 ≤ n < numExtraIds */
  sentinelId(n: number): number;
  /** Id of a piece (`▁the`, `</s>`, `<extra_id_0>`), or undefined. */
  idOf(piece: string): number | undefined;
  /** Piece of an id; extra ids as `<extra_id_0>`. @throws INTERNAL unless 0 ≤ id < vocabSize */
  pieceOf(id: number): string;
}

/** Largest tokenizer file, bytes; that of mT5 has 16 MB as JSON. */
export const MAX_TOKENIZER_BYTES = 256 * 1024 * 1024;

export interface TokenizerOptions {
  /** T5: 100. */
  readonly numExtraIds?: number;
}

/**
 * Reads `spiece.model` (SentencePiece) or `tokenizer.json` (Hugging Face). The first bytes tell which. BYTE_VOCABULARY in place of the path is
 * the vocabulary of bytes.
 * @throws PATH_UNUSABLE if the file cannot be read; TOKENIZER_INVALID if it is damaged or not a Unigram model with pad
 * 0, EOS 1, unk 2; CONFIG_INVALID for an invalid numExtraIds
 */
export async function loadTokenizer(path: string, { numExtraIds = 100 }: TokenizerOptions = {}): Promise<Tokenizer> {
  if (path !== BYTE_VOCABULARY) return createTokenizer(await readTokenizerFile(path), path, { numExtraIds });
  checkNumExtraIds(numExtraIds);
  return new ByteTokenizer(numExtraIds);
}

/** @throws PATH_UNUSABLE */
export async function readTokenizerFile(path: string): Promise<Uint8Array> {
  try {
    return await readSmallFile(path, MAX_TOKENIZER_BYTES);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new TrainerError('PATH_UNUSABLE', `${path}: the tokenizer cannot be read: ${message}`, { cause });
  }
}

/**
 * The same from the file's bytes. `path` is for messages. @throws as loadTokenizer
 */
export function createTokenizer(
  bytes: Uint8Array,
  path: string,
  { numExtraIds = 100 }: TokenizerOptions = {},
): Tokenizer {
  checkNumExtraIds(numExtraIds);
  const { model, bytesMended } = readTokenizerModel(bytes, path, numExtraIds);
  const hash = createHash('sha256').update(bytes).update(`\nextra ids: ${numExtraIds}\n`);
  // Such a file gave other ids before its byte pieces were bytes.
  if (bytesMended) hash.update('byte pieces: bytes\n');
  return new UnigramTokenizer(model, numExtraIds, hash.digest('hex'), path);
}

/** @throws CONFIG_INVALID */
function checkNumExtraIds(numExtraIds: number): void {
  if (Number.isInteger(numExtraIds) && numExtraIds >= 0 && numExtraIds <= MAX_EXTRA_IDS) return;
  throw new TrainerError(
    'CONFIG_INVALID',
    `numExtraIds: expected an integer from 0 to ${MAX_EXTRA_IDS}, got ${numExtraIds}`,
  );
}

/** The model of a tokenizer as data. */
export interface TokenizerModel {
  /** Without extra ids. */
  readonly model: UnigramModel;
  readonly format: 'sentencepiece' | 'json';
  /** In the file; SentencePiece has none. */
  readonly numExtraIds: number;
  /** Whether byte_fallback is off in the file, but all 256 byte pieces are there. */
  readonly bytesMended: boolean;
}

/** @param path for messages @throws TOKENIZER_INVALID */
export function readTokenizerModel(bytes: Uint8Array, path: string, numExtraIds: number): TokenizerModel {
  const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isJson(content, path)) {
    return { model: parseSentencePieceModel(bytes, path), format: 'sentencepiece', numExtraIds: 0, bytesMended: false };
  }
  const file = parseTokenizerJson(content.toString('utf8'), path);
  if (file.numExtraIds !== 0 && file.numExtraIds !== numExtraIds) {
    throw new TrainerError(
      'TOKENIZER_INVALID',
      `${path}: expected ${numExtraIds} extra ids, found ${file.numExtraIds}; set the number of extra ids to that of the file`,
    );
  }
  return { ...file, format: 'json' };
}

/** Whether it is JSON; else a SentencePiece model, whose first byte is that of a piece. @throws TOKENIZER_INVALID */
function isJson(content: Buffer, path: string): boolean {
  const head = content.subarray(0, HEAD_BYTES);
  const kind = identifyContent(head);
  const start = head
    .toString('utf8', 0, 256)
    .replace(/^\uFEFF/u, '')
    .trimStart();
  if (start.startsWith('{')) return true;
  if (kind === 'other') return path.endsWith('.json') && head[0] !== FIRST_BYTE;
  const { what, remedy } = isRefused(kind)
    ? describeRefused(kind)
    : { what: `data of the kind ${kind}`, remedy: 'unpack or convert it first' };
  const expected = 'expected spiece.model or the tokenizer.json of a Unigram model';
  throw new TrainerError('TOKENIZER_INVALID', `${path}: ${expected}, found ${what}; ${remedy}`);
}

class UnigramTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly numPieces: number;
  readonly numExtraIds: number;
  readonly padId = PAD_ID;
  readonly eosId = EOS_ID;
  readonly unkId = UNK_ID;
  readonly hash: string;
  readonly #model: UnigramModel;
  readonly #normalizer: Normalizer;
  readonly #encoder: UnigramEncoder;
  readonly #decoder: PieceDecoder;
  readonly #idOf: ReadonlyMap<string, number>;
  #ids = new Int32Array(1024);

  constructor(model: UnigramModel, numExtraIds: number, hash: string, where: string) {
    const extended = { ...model, pieces: [...model.pieces, ...extraIdPieces(numExtraIds)] };
    this.#model = model;
    this.hash = hash;
    this.numPieces = model.pieces.length;
    this.numExtraIds = numExtraIds;
    this.vocabSize = extended.pieces.length;
    const clash = numExtraIds === 0 ? -1 : model.pieces.findIndex(({ text }) => extraIdOf(text) !== undefined);
    if (clash >= 0) {
      throw new TrainerError(
        'TOKENIZER_INVALID',
        `${where}: piece ${clash} is ${JSON.stringify(model.pieces[clash]!.text)}, the name of an extra id; ` +
          'set the number of extra ids to 0 or use a model without them',
      );
    }
    const userDefined = extended.pieces.filter(({ kind }) => kind === 'user-defined').map(({ text }) => text);
    this.#normalizer = new Normalizer(model.normalizer, userDefined, where);
    this.#encoder = new UnigramEncoder(extended, this.#normalizer);
    this.#decoder = new PieceDecoder(extended);
    this.#idOf = new Map(model.pieces.map(({ text }, id) => [text, id]));
  }

  encode(text: string): number[] {
    let count = this.encodeInto(text, this.#ids, 0);
    if (count > this.#ids.length) {
      this.#ids = new Int32Array(2 * count);
      count = this.encodeInto(text, this.#ids, 0);
    }
    return Array.from(this.#ids.subarray(0, count));
  }

  encodeInto(text: string, out: Int32Array, at: number): number {
    const length = this.#normalizer.normalize(text);
    return this.#encoder.encodeInto(this.#normalizer.bytes, length, out, at);
  }

  decode(ids: ArrayLike<number>): string {
    return this.#decoder.decode(ids);
  }

  normalize(text: string): string {
    return this.#normalizer.normalizedText(text);
  }

  sentinelId(n: number): number {
    if (!Number.isInteger(n) || n < 0 || n >= this.numExtraIds) {
      throw new TrainerError('INTERNAL', `sentinel ${n}: the tokenizer has ${this.numExtraIds} extra ids`);
    }
    return this.vocabSize - 1 - n;
  }

  idOf(piece: string): number | undefined {
    const id = this.#idOf.get(piece);
    if (id !== undefined) return id;
    const n = piece.startsWith(SPACE_SYMBOL) ? undefined : extraIdOf(piece);
    return n === undefined || n >= this.numExtraIds ? undefined : this.vocabSize - 1 - n;
  }

  pieceOf(id: number): string {
    const piece = this.#model.pieces[id];
    if (piece !== undefined) return piece.text;
    if (!Number.isInteger(id) || id < 0 || id >= this.vocabSize) {
      throw new TrainerError('INTERNAL', `id ${id}: the tokenizer has ids from 0 to ${this.vocabSize - 1}`);
    }
    return `<extra_id_${this.vocabSize - 1 - id}>`;
  }
}
