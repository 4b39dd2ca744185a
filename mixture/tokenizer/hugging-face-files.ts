/**
 * The files by which Transformers loads a tokenizer without the library sentencepiece: tokenizer.json, tokenizer_config.json,
 * special_tokens_map.json. Pure.
 *
 * The tokenizer.json has the form that Transformers' own converter gives a T5 (T5Converter): Precompiled, WhitespaceSplit, Metaspace, Unigram,
 * EOS at the end, `<extra_id_99>` to `<extra_id_0>` above the pieces. So its ids differ from SentencePiece's where Transformers' differ:
 * literal names of special tokens, extra ids and byte pieces in a text, U+0085, stacked combining marks, ties (golden/README.md, section 8).
 *
 * Definition: a model is *plain* if T5's tokenizer class gives its ids. That class builds the steps itself and knows no byte pieces; any other
 * model names the class that takes the file as it is.
 * Assumption: pieces of the kind `unused` do not occur; a tokenizer.json has no such kind.
 */
import { extraIdPieces } from './extra-ids.ts';
import { EOS_ID, PAD_ID, SPACE_SYMBOL, UNK_ID, type UnigramModel } from './unigram-model.ts';

export interface HuggingFaceFile {
  readonly name: 'tokenizer.json' | 'tokenizer_config.json' | 'special_tokens_map.json';
  readonly text: string;
}

/** @param numExtraIds that the tokenizer has above the pieces of the model */
export function huggingFaceFiles(model: UnigramModel, numExtraIds: number): HuggingFaceFile[] {
  const [pad, eos, unk] = [PAD_ID, EOS_ID, UNK_ID].map((id) => model.pieces[id]!.text);
  const extraIds = extraIdPieces(numExtraIds).map(({ text }) => text.slice(SPACE_SYMBOL.length));
  const special = { eos_token: eos, pad_token: pad, unk_token: unk };
  // Transformers lists them upwards.
  const additional = extraIds.length === 0 ? {} : { additional_special_tokens: [...extraIds].reverse() };
  const loader = isPlain(model)
    ? { tokenizer_class: 'T5Tokenizer', extra_ids: numExtraIds }
    : { tokenizer_class: 'PreTrainedTokenizerFast' };
  const config = { ...loader, ...special, ...additional, clean_up_tokenization_spaces: false };
  return [
    { name: 'tokenizer.json', text: `${JSON.stringify(tokenizerJson(model, extraIds))}\n` },
    { name: 'tokenizer_config.json', text: `${JSON.stringify(config, null, 2)}\n` },
    { name: 'special_tokens_map.json', text: `${JSON.stringify({ ...special, ...additional }, null, 2)}\n` },
  ];
}

function isPlain({ pieces, byteFallback, normalizer }: UnigramModel): boolean {
  const { addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces } = normalizer;
  const hasNames = ['<pad>', '</s>', '<unk>'].every((name, id) => pieces[id]!.text === name);
  return hasNames && !byteFallback && addDummyPrefix && removeExtraWhitespaces && escapeWhitespaces;
}

function tokenizerJson({ pieces, normalizer, byteFallback }: UnigramModel, extraIds: readonly string[]): object {
  const { charsmap, addDummyPrefix, removeExtraWhitespaces } = normalizer;
  const eos = pieces[EOS_ID]!.text;
  const added = pieces.flatMap(({ text, kind }, id) =>
    id <= UNK_ID || kind === 'control' || kind === 'user-defined'
      ? [addedToken(id, text, kind !== 'user-defined')]
      : [],
  );
  const prepend = addDummyPrefix ? 'always' : 'never';
  const metaspace = { type: 'Metaspace', replacement: SPACE_SYMBOL, prepend_scheme: prepend, split: true };
  const sequence = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } });
  const end = { SpecialToken: { id: eos, type_id: 0 } };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [...added, ...extraIds.map((text, i) => addedToken(pieces.length + i, text, true))],
    normalizer:
      charsmap.length === 0
        ? null
        : { type: 'Precompiled', precompiled_charsmap: Buffer.from(charsmap).toString('base64') },
    pre_tokenizer: removeExtraWhitespaces
      ? { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, metaspace] }
      : metaspace,
    post_processor: {
      type: 'TemplateProcessing',
      single: [sequence('A'), end],
      pair: [sequence('A'), end, sequence('B'), end],
      special_tokens: { [eos]: { id: eos, ids: [EOS_ID], tokens: [eos] } },
    },
    decoder: byteFallback ? { type: 'Sequence', decoders: [metaspace, { type: 'ByteFallback' }] } : metaspace,
    model: {
      type: 'Unigram',
      unk_id: UNK_ID,
      vocab: [...pieces.map(({ text, score }) => [text, score]), ...extraIds.map((text) => [text, 0])],
      byte_fallback: byteFallback,
    },
  };
}

function addedToken(id: number, content: string, special: boolean): object {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}
