/**
 * Hugging Face `tokenizer.json` of a Unigram model (the form of the published T5 checkpoints) → the same model as from
 * `spiece.model`.
 *
 * Transformers and SentencePiece differ (words split at any Unicode space, special tokens inside words, graphemes). We
 * use the model as SentencePiece does: the steps of the file only give SentencePiece's settings.
 * Assumptions: the pre-tokenizer is Metaspace, alone or after WhitespaceSplit. The normalizer is Precompiled, alone or
 * with Strip and Replace of repeated spaces. Other steps are rejected. All 256 byte pieces mean bytes, whatever
 * byte_fallback says.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { extraIdOf, withoutExtraIds } from './extra-ids.ts';
import {
  DEFAULT_UNK_SURFACE,
  type NormalizerSpec,
  type Piece,
  type PieceKind,
  SPACE_SYMBOL,
  UNK_ID,
  type UnigramModel,
  byteOfPiece,
  validateModel,
} from './unigram-model.ts';

const stepSchema = z.looseObject({
  type: z.string(),
  precompiled_charsmap: z.string().nullish(),
  replacement: z.string().nullish(),
  add_prefix_space: z.boolean().nullish(),
  prepend_scheme: z.string().nullish(),
});
type Step = z.infer<typeof stepSchema>;

const stepsSchema = z.looseObject({
  type: z.string(),
  normalizers: z.array(stepSchema).optional(),
  pretokenizers: z.array(stepSchema).optional(),
});

const fileSchema = z.looseObject({
  model: z.looseObject({
    type: z.literal('Unigram'),
    unk_id: z.int(),
    byte_fallback: z.boolean().nullish(),
    vocab: z.array(z.tuple([z.string(), z.number()])),
  }),
  normalizer: stepsSchema.and(stepSchema).nullable(),
  pre_tokenizer: stepsSchema.and(stepSchema).nullable(),
  added_tokens: z
    .array(z.looseObject({ id: z.int(), content: z.string(), special: z.boolean().default(false) }))
    .default([]),
});
type File = z.infer<typeof fileSchema>;

interface TokenizerJson {
  /** Without extra ids. */
  readonly model: UnigramModel;
  readonly numExtraIds: number;
  /** Whether byte_fallback is off in the file, but all 256 byte pieces are there. */
  readonly bytesMended: boolean;
}

/** @throws TOKENIZER_INVALID */
export function parseTokenizerJson(text: string, where: string): TokenizerJson {
  let json: unknown;
  try {
    json = JSON.parse(text.replace(/^\uFEFF/u, ''));
  } catch (cause) {
    throw new TrainerError('TOKENIZER_INVALID', `${where}: not valid JSON; the file is truncated or damaged`, {
      cause,
    });
  }
  const parsed = fileSchema.safeParse(json);
  if (!parsed.success) {
    throw new TrainerError(
      'TOKENIZER_INVALID',
      `${where}: expected the tokenizer.json of a Unigram model:\n${z.prettifyError(parsed.error)}`,
    );
  }
  const file = parsed.data;
  const bytesMended = file.model.byte_fallback !== true && hasAllBytes(file.model.vocab);
  const byteFallback = file.model.byte_fallback === true || bytesMended;
  const { pieces, numExtraIds } = withoutExtraIds(piecesOf(file, byteFallback, where), where);
  const normalizer = normalizerOf(file, where);
  const model = { pieces, normalizer, byteFallback, unkSurface: DEFAULT_UNK_SURFACE };
  validateModel(model, where);
  return { model, numExtraIds, bytesMended };
}

/**
 * Transformers writes byte_fallback false for every T5 model, also for those whose spiece.model has byte pieces (mT5).
 * As ordinary pieces they would give <unk> for unknown characters, and a byte for the text "<0x41>".
 */
function hasAllBytes(vocab: File['model']['vocab']): boolean {
  return new Set(vocab.map(([text]) => byteOfPiece(text)).filter((byte) => byte !== undefined)).size === 256;
}

function piecesOf({ model, added_tokens: addedTokens }: File, byteFallback: boolean, where: string): Piece[] {
  if (model.unk_id !== UNK_ID) {
    throw new TrainerError('TOKENIZER_INVALID', `${where}: expected unk_id ${UNK_ID}, found ${model.unk_id}`);
  }
  const texts = model.vocab.map(([text]) => text);
  const kinds = new Map<number, PieceKind>([[UNK_ID, 'unknown']]);
  for (const { id, content, special } of [...addedTokens].sort((a, b) => a.id - b.id)) {
    if (id === texts.length && extraIdOf(content) !== undefined) texts.push(content);
    if (texts[id] !== content) {
      throw new TrainerError(
        'TOKENIZER_INVALID',
        `${where}: added token ${JSON.stringify(content)} has id ${id}, where the vocabulary has ` +
          `${JSON.stringify(texts[id] ?? null)}; only T5's extra ids may be added to a vocabulary`,
      );
    }
    if (id !== UNK_ID) kinds.set(id, special ? 'control' : 'user-defined');
  }
  const isByte = (text: string): boolean => byteFallback && byteOfPiece(text) !== undefined;
  return texts.map((text, id) => ({
    text,
    score: Math.fround(model.vocab[id]?.[1] ?? 0),
    kind: kinds.get(id) ?? (isByte(text) ? 'byte' : 'normal'),
  }));
}

function normalizerOf(file: File, where: string): NormalizerSpec {
  const unexpected = (what: string, step: Step): TrainerError =>
    new TrainerError(
      'TOKENIZER_INVALID',
      `${where}: ${what} ${JSON.stringify(step.type)} is not part of a T5 tokenizer`,
    );
  let charsmap = new Uint8Array(0);
  let removeExtraWhitespaces = false;
  for (const step of stepsOf(file.normalizer, file.normalizer?.normalizers)) {
    if (step.type === 'Precompiled') charsmap = Uint8Array.from(Buffer.from(step.precompiled_charsmap ?? '', 'base64'));
    else if (step.type === 'Strip' || step.type === 'Replace') removeExtraWhitespaces = true;
    else throw unexpected('normalizer', step);
  }
  let metaspace: Step | undefined;
  for (const step of stepsOf(file.pre_tokenizer, file.pre_tokenizer?.pretokenizers)) {
    if (step.type === 'WhitespaceSplit') removeExtraWhitespaces = true;
    else if (step.type === 'Metaspace') metaspace = step;
    else throw unexpected('pre_tokenizer', step);
  }
  if (metaspace?.replacement !== SPACE_SYMBOL) {
    throw new TrainerError('TOKENIZER_INVALID', `${where}: expected a Metaspace pre_tokenizer that writes spaces as ▁`);
  }
  const addDummyPrefix = (metaspace.prepend_scheme ?? 'always') !== 'never' && metaspace.add_prefix_space !== false;
  return { name: '', charsmap, addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces: true };
}

/** A single step, or the steps of a Sequence. */
function stepsOf(step: Step | null, sequence: Step[] | undefined): Step[] {
  if (step === null) return [];
  return step.type === 'Sequence' ? (sequence ?? []) : [step];
}
