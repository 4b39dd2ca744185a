import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readGoldenLines, readGoldenModel } from './golden-lines.fixture.ts';
import { parseSentencePieceModel } from './sentencepiece-file.ts';
import { createTokenizer } from './tokenizer.ts';

const model = parseSentencePieceModel(readGoldenModel(), 'golden');

interface JsonOptions {
  readonly numExtraIds: number;
  readonly extraIdPrefix?: string;
  readonly change?: (file: Record<string, unknown>) => void;
}

/** The file that Transformers' converter makes from the model. */
function tokenizerJson({ numExtraIds, extraIdPrefix = '', change }: JsonOptions): Uint8Array {
  const extraIds = Array.from({ length: numExtraIds }, (_, i) => `${extraIdPrefix}<extra_id_${numExtraIds - 1 - i}>`);
  const names = [...model.pieces.map(({ text }) => text), ...extraIds];
  const special = [0, 1, 2, ...extraIds.map((_, i) => model.pieces.length + i)];
  const file: Record<string, unknown> = {
    version: '1.0',
    added_tokens: special.map((id) => ({ id, content: names[id]!, special: true, normalized: false })),
    normalizer: {
      type: 'Precompiled',
      precompiled_charsmap: Buffer.from(model.normalizer.charsmap).toString('base64'),
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'WhitespaceSplit' },
        { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always' },
      ],
    },
    model: {
      type: 'Unigram',
      unk_id: 2,
      vocab: [...model.pieces.map(({ text, score }) => [text, score]), ...extraIds.map((name) => [name, 0])],
    },
  };
  change?.(file);
  return Buffer.from(JSON.stringify(file));
}

const lines = readGoldenLines();

describe('tokenizer.json', () => {
  test('gives the ids of spiece.model on the golden lines', () => {
    const tokenizer = createTokenizer(tokenizerJson({ numExtraIds: 100 }), 'tokenizer.json');
    assert.equal(tokenizer.vocabSize, 4100);
    for (const { n, text, normalized, ids, seqio_ids, decoded } of lines) {
      assert.equal(tokenizer.normalize(text), normalized, `line ${n}`);
      assert.deepEqual(tokenizer.encode(text), seqio_ids ?? ids, `line ${n}`);
      assert.equal(tokenizer.decode(ids), decoded, `line ${n}`);
    }
  });

  test('may have no extra ids, may name them as pieces, or may list them only as added tokens', () => {
    const files = [
      tokenizerJson({ numExtraIds: 0 }),
      tokenizerJson({ numExtraIds: 100, extraIdPrefix: '\u2581' }),
      tokenizerJson({
        numExtraIds: 100,
        change: (file) => ((file['model'] as { vocab: unknown[] }).vocab.length = 4000),
      }),
    ];
    for (const file of files) {
      const tokenizer = createTokenizer(file, 'tokenizer.json');
      assert.deepEqual(tokenizer.encode('the <extra_id_0> list'), [3, 4099, 74]);
    }
  });

  test('Strip and Replace also remove extra spaces, and the prefix is optional', () => {
    const file = tokenizerJson({
      numExtraIds: 0,
      change: (json) => {
        json['normalizer'] = {
          type: 'Sequence',
          normalizers: [json['normalizer'], { type: 'Strip' }, { type: 'Replace' }],
        };
        json['pre_tokenizer'] = { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'never' };
      },
    });
    assert.equal(createTokenizer(file, 'a.json').normalize('  a  b '), 'a\u2581b');
  });
});

describe('an invalid tokenizer.json is rejected', () => {
  const step = (type: string): unknown => ({ type: 'Sequence', pretokenizers: [{ type }] });
  const changes: [string, (file: Record<string, unknown>) => void, RegExp][] = [
    ['a BPE model', (file) => (file['model'] = { type: 'BPE' }), /Unigram/],
    ['another unk', (file) => ((file['model'] as { unk_id: number }).unk_id = 0), /expected unk_id 2, found 0/],
    ['an unknown normalizer', (file) => (file['normalizer'] = { type: 'Lowercase' }), /normalizer "Lowercase"/],
    ['an unknown pre-tokenizer', (file) => (file['pre_tokenizer'] = step('ByteLevel')), /pre_tokenizer "ByteLevel"/],
    ['no Metaspace', (file) => (file['pre_tokenizer'] = step('WhitespaceSplit')), /Metaspace/],
    ['no pre-tokenizer', (file) => (file['pre_tokenizer'] = null), /Metaspace/],
    ['an added word', (file) => (file['added_tokens'] = [{ id: 4100, content: 'new' }]), /"new" has id 4100/],
    ['a misplaced extra id', (file) => (file['added_tokens'] = [{ id: 7, content: '<extra_id_1>' }]), /<extra_id_1>/],
    [
      'extra ids upwards',
      (file) => (file['model'] as { vocab: unknown[][] }).vocab.splice(4000, 2, ['<extra_id_0>', 0]),
      /<extra_id_0>|<extra_id_98>/,
    ],
  ];
  for (const [name, change, message] of changes) {
    test(name, () => {
      const file = tokenizerJson({ numExtraIds: 100, change });
      assert.throws(() => createTokenizer(file, 'x.json'), { code: 'TOKENIZER_INVALID', message });
    });
  }

  test('another number of extra ids than requested', () => {
    assert.throws(() => createTokenizer(tokenizerJson({ numExtraIds: 10 }), 'x.json'), {
      code: 'TOKENIZER_INVALID',
      message: /expected 100 extra ids, found 10/,
    });
  });

  test('a truncated file', () => {
    const whole = tokenizerJson({ numExtraIds: 0 });
    for (const length of [0, 1, 100, whole.length >> 1, whole.length - 1]) {
      assert.throws(() => createTokenizer(whole.subarray(0, length), 'x.json'), { code: 'TOKENIZER_INVALID' });
    }
  });
});
