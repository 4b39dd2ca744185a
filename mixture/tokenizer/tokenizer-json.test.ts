import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
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

describe('tokenizer.json of a model with byte pieces, as Transformers writes it', () => {
  const folder = new URL('../../golden/sentencepiece-bytes/', import.meta.url);
  const bytes = (name: string): Uint8Array => readFileSync(new URL(name, folder));
  const oracle = Buffer.from(bytes('oracle.jsonl'))
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { text: string; ids: number[] });

  for (const name of ['spiece.model', 'tokenizer.json'])
    test(`${name} gives the ids of SentencePiece`, () => {
      const tokenizer = createTokenizer(bytes(name), name);
      assert.equal(oracle.length, 31);
      // SentencePiece knows no extra ids.
      for (const { text, ids } of oracle.filter((line) => !line.text.includes('<extra_id')))
        assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    });

  test('byte_fallback on or off gives the same ids, and off has a hash of its own', () => {
    const off = bytes('tokenizer.json');
    const on = Buffer.from(
      Buffer.from(off)
        .toString()
        .replace(/"byte_fallback": ?false/u, '"byte_fallback":true'),
    );
    assert.notDeepEqual(Buffer.from(off), on);
    const [first, second] = [createTokenizer(off, 'a.json'), createTokenizer(on, 'a.json')];
    for (const { text } of oracle) assert.deepEqual(first.encode(text), second.encode(text));
    const plain = createHash('sha256').update(off).update('\nextra ids: 100\n').digest('hex');
    assert.notEqual(first.hash, plain);
  });

  test('255 byte pieces are ordinary pieces if byte_fallback is off', () => {
    const file = JSON.parse(Buffer.from(bytes('tokenizer.json')).toString()) as {
      model: { vocab: [string, number][] };
    };
    const at = file.model.vocab.findIndex(([text]) => text === '<0x41>');
    file.model.vocab[at] = ['<0x4G>', 0];
    const tokenizer = createTokenizer(Buffer.from(JSON.stringify(file)), 'a.json');
    assert.equal(tokenizer.encode('한').at(-1), 2);
  });
});

describe('the first bytes of a tokenizer file decide', () => {
  test('JSON and SentencePiece models are read under any name', () => {
    const expected = [3, 4099, 74];
    for (const [content, path] of [
      [readGoldenModel(), 'tokenizer.json'],
      [tokenizerJson({ numExtraIds: 100 }), 'spiece.model'],
      [Buffer.concat([Buffer.from('\ufeff \n'), tokenizerJson({ numExtraIds: 100 })]), 'vocabulary'],
    ] as const)
      assert.deepEqual(createTokenizer(content, path).encode('the <extra_id_0> list'), expected, path);
  });

  for (const [what, content, message] of [
    [
      'a git-LFS pointer',
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 791656\n'),
      /git lfs pull/,
    ],
    ['a page of HTML', Buffer.from('<!doctype html><html>Sign in</html>'), /found a page of HTML/],
    ['gzip', gzipSync(readGoldenModel()), /found data of the kind gzip; unpack/],
    ['UTF-16', Buffer.from('\ufeff{"model": {}}', 'utf16le'), /utf-16le; unpack or convert/],
    ['a zip archive', Buffer.from('PK\x03\x04abc'), /zip archive/],
  ] as const)
    test(`${what} is TOKENIZER_INVALID and says what it is`, () => {
      for (const path of ['spiece.model', 'tokenizer.json'])
        assert.throws(() => createTokenizer(content, path), { code: 'TOKENIZER_INVALID', message });
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
