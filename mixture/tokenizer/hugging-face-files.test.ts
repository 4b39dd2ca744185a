import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { readGoldenLines, readGoldenModel } from './golden-lines.fixture.ts';
import { huggingFaceFiles, type HuggingFaceFile } from './hugging-face-files.ts';
import { parseSentencePieceModel } from './sentencepiece-file.ts';
import { createTokenizer } from './tokenizer.ts';

const golden = parseSentencePieceModel(readGoldenModel(), 'golden');
const bytesFolder = new URL('../../golden/sentencepiece-bytes/', import.meta.url);

function textOf(files: readonly HuggingFaceFile[], name: HuggingFaceFile['name']): string {
  return files.find((file) => file.name === name)!.text;
}

function parse(files: readonly HuggingFaceFile[], name: HuggingFaceFile['name']): Record<string, unknown> {
  return JSON.parse(textOf(files, name)) as Record<string, unknown>;
}

describe('tokenizer files for Transformers', () => {
  test('give the ids of spiece.model on the golden lines when exmix reads them back', () => {
    const tokenizer = createTokenizer(Buffer.from(textOf(huggingFaceFiles(golden, 100), 'tokenizer.json')), 'made');
    const lines = readGoldenLines();
    assert.equal(lines.length, 500);
    for (const { n, text, ids, seqio_ids, decoded } of lines) {
      assert.deepEqual(tokenizer.encode(text), seqio_ids ?? ids, `line ${n}`);
      assert.equal(tokenizer.decode(ids), decoded, `line ${n}`);
    }
  });

  test('equal those of Transformers’ own converter, but for byte pieces, which mean bytes', () => {
    const converted = JSON.parse(readFileSync(new URL('tokenizer.json', bytesFolder), 'utf8')) as Record<
      string,
      unknown
    >;
    const model = parseSentencePieceModel(readFileSync(new URL('spiece.model', bytesFolder)), 'golden bytes');
    const made = parse(huggingFaceFiles(model, 100), 'tokenizer.json');
    const withBytes = { ...(converted['model'] as object), byte_fallback: true };
    const metaspace = converted['decoder'];
    const decoder = { type: 'Sequence', decoders: [metaspace, { type: 'ByteFallback' }] };
    assert.deepEqual(made, { ...converted, model: withBytes, decoder });
  });

  test('name T5’s class for a plain model, and else the class that takes the file as it is', () => {
    const classOf = (model: typeof golden): unknown =>
      parse(huggingFaceFiles(model, 100), 'tokenizer_config.json')['tokenizer_class'];
    assert.equal(classOf(golden), 'T5Tokenizer');
    const { normalizer, pieces } = golden;
    assert.equal(
      classOf({ ...golden, normalizer: { ...normalizer, addDummyPrefix: false } }),
      'PreTrainedTokenizerFast',
    );
    assert.equal(
      classOf({ ...golden, normalizer: { ...normalizer, removeExtraWhitespaces: false } }),
      'PreTrainedTokenizerFast',
    );
    const renamed = pieces.map((piece, id) => (id === 0 ? { ...piece, text: '[PAD]' } : piece));
    assert.equal(classOf({ ...golden, pieces: renamed }), 'PreTrainedTokenizerFast');
  });

  test('list the special tokens, and the extra ids from <extra_id_0> on', () => {
    const files = huggingFaceFiles(golden, 3);
    const special = { eos_token: '</s>', pad_token: '<pad>', unk_token: '<unk>' };
    const additional_special_tokens = ['<extra_id_0>', '<extra_id_1>', '<extra_id_2>'];
    assert.deepEqual(parse(files, 'special_tokens_map.json'), { ...special, additional_special_tokens });
    assert.equal(parse(files, 'tokenizer_config.json')['extra_ids'], 3);
    assert.deepEqual(parse(huggingFaceFiles(golden, 0), 'special_tokens_map.json'), special);
  });

  test('keep a user-defined piece and settings of the normalizer', () => {
    const pieces = golden.pieces.map((piece, id) => (id === 50 ? { ...piece, kind: 'user-defined' as const } : piece));
    const normalizer = {
      ...golden.normalizer,
      charsmap: new Uint8Array(0),
      addDummyPrefix: false,
      removeExtraWhitespaces: false,
    };
    const model = { ...golden, pieces, normalizer };
    const made = huggingFaceFiles(model, 100);
    const tokenizer = createTokenizer(Buffer.from(textOf(made, 'tokenizer.json')), 'made');
    for (const text of [`two  spaces ${pieces[50]!.text}x`, ' x ', 'ﬁ'])
      assert.deepEqual(tokenizer.normalize(text), text.replaceAll(' ', '\u2581'), text);
    assert.ok(tokenizer.encode(`x${pieces[50]!.text}x`).includes(50));
  });
});
