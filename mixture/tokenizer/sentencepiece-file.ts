/**
 * `spiece.model`: reads and writes SentencePiece's ModelProto.
 *
 * Assumptions: a Unigram model. The file has trainer and normalizer specs, because SentencePiece always writes them
 * after the pieces. So a truncated file is noticed even if it ends between two fields.
 * Source: sentencepiece_model.proto of google/sentencepiece.
 *
 * | message | field | content |
 * |---|---|---|
 * | ModelProto | 1, 2, 3, 5 | pieces, trainer_spec, normalizer_spec, denormalizer_spec |
 * | SentencePiece | 1, 2, 3 | piece, score, type |
 * | TrainerSpec | 3, 4, 35, 40–43, 44, 24 | model_type, vocab_size, byte_fallback, unk/bos/eos/pad id, unk_surface, whitespace as suffix |
 * | NormalizerSpec | 1–5 | name, precompiled_charsmap, add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces |
 */
import { writeFile } from 'node:fs/promises';
import { TrainerError } from '../../shared/errors.ts';
import { MessageReader, MessageWriter } from './protobuf.ts';
import {
  DEFAULT_UNK_SURFACE,
  EOS_ID,
  type NormalizerSpec,
  PAD_ID,
  type Piece,
  type PieceKind,
  UNK_ID,
  type UnigramModel,
  validateModel,
} from './unigram-model.ts';

const MODEL_TYPE_UNIGRAM = 1;

/** SentencePiece.Type, in the order of its numbers from 1. */
const KINDS: readonly PieceKind[] = ['normal', 'unknown', 'control', 'user-defined', 'unused', 'byte'];

interface TrainerFacts {
  readonly byteFallback: boolean;
  readonly unkSurface: string;
}

/**
 * @param bytes the whole file
 * @param where the path of the file, for messages
 * @throws TOKENIZER_INVALID
 */
export function parseSentencePieceModel(bytes: Uint8Array, where: string): UnigramModel {
  const pieces: Piece[] = [];
  let trainer: TrainerFacts | undefined;
  let normalizer: NormalizerSpec | undefined;
  const reader = new MessageReader(bytes, where);
  while (reader.next()) {
    if (reader.field === 1) pieces.push(parsePiece(reader.bytes(), `${where}: piece ${pieces.length}`));
    else if (reader.field === 2) trainer = parseTrainerSpec(reader.bytes(), `${where}: trainer_spec`);
    else if (reader.field === 3) normalizer = parseNormalizerSpec(reader.bytes(), `${where}: normalizer_spec`);
    else if (reader.field === 5) rejectDenormalizer(reader.bytes(), `${where}: denormalizer_spec`);
    else reader.skip();
  }
  if (trainer === undefined || normalizer === undefined) {
    throw new TrainerError(
      'TOKENIZER_INVALID',
      `${where}: expected pieces, trainer_spec and normalizer_spec, found ${pieces.length} pieces and no ` +
        `${trainer === undefined ? 'trainer_spec' : 'normalizer_spec'}; the file is truncated or not a SentencePiece model`,
    );
  }
  const model = { pieces, normalizer, ...trainer };
  validateModel(model, where);
  return model;
}

function parsePiece(bytes: Uint8Array, where: string): Piece {
  const reader = new MessageReader(bytes, where);
  let text = '';
  let score = 0;
  let type = 1;
  while (reader.next()) {
    if (reader.field === 1) text = reader.string();
    else if (reader.field === 2) score = reader.float();
    else if (reader.field === 3) type = reader.int32();
    else reader.skip();
  }
  const kind = KINDS[type - 1];
  if (kind === undefined)
    throw new TrainerError('TOKENIZER_INVALID', `${where}: expected a type from 1 to 6, found ${type}`);
  return { text, score, kind };
}

function parseTrainerSpec(bytes: Uint8Array, where: string): TrainerFacts {
  const reader = new MessageReader(bytes, where);
  const ids = { unk_id: 0, eos_id: 2, pad_id: -1 }; // the defaults of the proto
  let modelType = MODEL_TYPE_UNIGRAM;
  let byteFallback = false;
  let isSuffix = false;
  let unkSurface = DEFAULT_UNK_SURFACE;
  while (reader.next()) {
    if (reader.field === 3) modelType = reader.int32();
    else if (reader.field === 24) isSuffix = reader.bool();
    else if (reader.field === 35) byteFallback = reader.bool();
    else if (reader.field === 40) ids.unk_id = reader.int32();
    else if (reader.field === 42) ids.eos_id = reader.int32();
    else if (reader.field === 43) ids.pad_id = reader.int32();
    else if (reader.field === 44) unkSurface = reader.string();
    else reader.skip();
  }
  if (modelType !== MODEL_TYPE_UNIGRAM) {
    const name = ['', 'unigram', 'BPE', 'word', 'char'][modelType] ?? 'unknown';
    throw new TrainerError(
      'TOKENIZER_INVALID',
      `${where}: expected model_type 1 (unigram), found ${modelType} (${name})`,
    );
  }
  if (isSuffix) {
    throw new TrainerError(
      'TOKENIZER_INVALID',
      `${where}: treat_whitespace_as_suffix is not supported; T5 models do not use it`,
    );
  }
  if (ids.pad_id !== PAD_ID || ids.eos_id !== EOS_ID || ids.unk_id !== UNK_ID) {
    throw new TrainerError(
      'TOKENIZER_INVALID',
      `${where}: expected pad_id 0, eos_id 1, unk_id 2, found ${ids.pad_id}, ${ids.eos_id}, ${ids.unk_id}; ` +
        'train the model with --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1',
    );
  }
  return { byteFallback, unkSurface };
}

function parseNormalizerSpec(bytes: Uint8Array, where: string): NormalizerSpec {
  const reader = new MessageReader(bytes, where);
  let name = '';
  let charsmap = new Uint8Array(0);
  let addDummyPrefix = true;
  let removeExtraWhitespaces = true;
  let escapeWhitespaces = true;
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field === 2) charsmap = Uint8Array.from(reader.bytes());
    else if (reader.field === 3) addDummyPrefix = reader.bool();
    else if (reader.field === 4) removeExtraWhitespaces = reader.bool();
    else if (reader.field === 5) escapeWhitespaces = reader.bool();
    else reader.skip();
  }
  return { name, charsmap, addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces };
}

function rejectDenormalizer(bytes: Uint8Array, where: string): void {
  if (parseNormalizerSpec(bytes, where).charsmap.length > 0) {
    throw new TrainerError('TOKENIZER_INVALID', `${where}: rules for decoding are not supported; T5 models have none`);
  }
}

/** The bytes of a `spiece.model`. Equal models give equal bytes. @throws TOKENIZER_INVALID for an invalid model */
export function serializeSentencePieceModel(model: UnigramModel): Uint8Array {
  validateModel(model, 'the model to write');
  const file = new MessageWriter();
  for (const { text, score, kind } of model.pieces) {
    const piece = new MessageWriter().string(1, text).float(2, score);
    if (kind !== 'normal') piece.int32(3, KINDS.indexOf(kind) + 1);
    file.bytes(1, piece.finish());
  }
  const trainer = new MessageWriter().int32(3, MODEL_TYPE_UNIGRAM).int32(4, model.pieces.length);
  if (model.byteFallback) trainer.bool(35, true);
  trainer.int32(40, UNK_ID).int32(41, -1).int32(42, EOS_ID).int32(43, PAD_ID);
  if (model.unkSurface !== DEFAULT_UNK_SURFACE) trainer.string(44, model.unkSurface);
  trainer.string(45, model.pieces[UNK_ID]!.text).string(47, model.pieces[EOS_ID]!.text);
  trainer.string(48, model.pieces[PAD_ID]!.text);
  file.bytes(2, trainer.finish());
  const { name, charsmap, addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces } = model.normalizer;
  const normalizer = new MessageWriter().string(1, name).bytes(2, charsmap).bool(3, addDummyPrefix);
  normalizer.bool(4, removeExtraWhitespaces).bool(5, escapeWhitespaces);
  file.bytes(3, normalizer.finish());
  return file.finish();
}

/** Writes a `spiece.model` that SentencePiece can load. @throws PATH_UNUSABLE, TOKENIZER_INVALID */
export async function writeSentencePieceModel(path: string, model: UnigramModel): Promise<void> {
  const bytes = serializeSentencePieceModel(model);
  try {
    await writeFile(path, bytes);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new TrainerError('PATH_UNUSABLE', `${path}: the tokenizer cannot be written: ${message}`, { cause });
  }
}
