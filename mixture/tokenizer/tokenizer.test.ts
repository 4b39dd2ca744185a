import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GOLDEN_MODEL_PATH, readGoldenLines, readGoldenModel } from './golden-lines.fixture.ts';
import { MAX_TEXT_UNITS } from './normalizer.ts';
import { createTokenizer, loadTokenizer } from './tokenizer.ts';

const bytes = readGoldenModel();
const tokenizer = createTokenizer(bytes, 'spiece.model');
const plain = createTokenizer(bytes, 'spiece.model', { numExtraIds: 0 });
const lines = readGoldenLines();

describe('on the 500 golden lines', () => {
  test('normalized texts equal those of SentencePiece', () => {
    assert.equal(lines.length, 500);
    for (const { n, text, normalized } of lines) assert.equal(plain.normalize(text), normalized, `line ${n}`);
  });

  test('ids equal those of SentencePiece, near-ties included', () => {
    for (const { n, text, ids } of lines) assert.deepEqual(plain.encode(text), ids, `line ${n}`);
  });

  test('ids with 100 extra ids equal those of SeqIO', () => {
    assert.equal(lines.filter((line) => line.seqio_ids !== undefined).length, 7);
    for (const { n, text, ids, seqio_ids } of lines)
      assert.deepEqual(tokenizer.encode(text), seqio_ids ?? ids, `line ${n}`);
  });

  test('decoded texts equal those of SentencePiece', () => {
    for (const { n, ids, decoded } of lines) assert.equal(plain.decode(ids), decoded, `line ${n}`);
  });

  test('an instance gives the same ids for any order of texts', () => {
    for (const { n, text, ids } of [...lines].reverse()) assert.deepEqual(plain.encode(text), ids, `line ${n}`);
  });
});

describe('extra ids', () => {
  const file = new URL('sentinels.json', `file://${GOLDEN_MODEL_PATH}`);
  const golden = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;

  test('are above the pieces; <extra_id_0> is the highest', () => {
    assert.equal(tokenizer.numPieces, golden['vocab_size_of_model']);
    assert.equal(tokenizer.vocabSize, golden['vocab_size_with_extra_ids']);
    assert.equal(tokenizer.sentinelId(0), golden['extra_id_0']);
    assert.equal(tokenizer.sentinelId(99), golden['extra_id_99']);
    assert.equal(tokenizer.pieceOf(4099), '<extra_id_0>');
    assert.equal(tokenizer.idOf('<extra_id_99>'), 4000);
    assert.equal(tokenizer.idOf('<extra_id_100>'), undefined);
  });

  test('decode as SeqIO prints them', () => {
    const comma = tokenizer.encode('a,').slice(-1);
    assert.equal(tokenizer.decode([4099, 4000, ...comma]), golden['seqio_decode']);
  });

  test('a sentinel that does not exist is rejected', () => {
    for (const n of [-1, 100, 0.5]) assert.throws(() => tokenizer.sentinelId(n), { code: 'INTERNAL' });
    assert.throws(() => tokenizer.pieceOf(4100), { code: 'INTERNAL' });
  });

  test('an invalid number of extra ids is rejected', () => {
    for (const numExtraIds of [-1, 1.5, NaN, 1e9]) {
      assert.throws(() => createTokenizer(bytes, 'x', { numExtraIds }), { code: 'CONFIG_INVALID' });
    }
  });
});

describe('interface', () => {
  test('idOf and pieceOf are inverse for all ids', () => {
    for (let id = 0; id < tokenizer.vocabSize; id++) assert.equal(tokenizer.idOf(tokenizer.pieceOf(id)), id);
    assert.equal(tokenizer.idOf('no such piece'), undefined);
  });

  test('encodeInto writes at a position, and nothing if there is too little space', () => {
    const out = new Int32Array(8).fill(-7);
    assert.equal(tokenizer.encodeInto('the value of a list', out, 2), 5);
    assert.deepEqual([...out], [-7, -7, 3, 56, 12, 8, 74, -7]);
    out.fill(-7);
    assert.equal(tokenizer.encodeInto('the value of a list', out, 4), 5);
    assert.deepEqual([...out], Array(8).fill(-7));
  });

  test('the hash differs for other files and other numbers of extra ids', () => {
    assert.match(tokenizer.hash, /^[0-9a-f]{64}$/);
    assert.equal(createTokenizer(bytes, 'elsewhere').hash, tokenizer.hash);
    assert.notEqual(plain.hash, tokenizer.hash);
  });

  test('pad and EOS are invisible in decoded text; ids outside the vocabulary decode as unk', () => {
    assert.equal(tokenizer.decode([3, 56, 1, 0, 0]), 'the value');
    assert.equal(tokenizer.decode([3, 4100, -1, 2.5]), 'the \u2047  \u2047  \u2047 ');
  });

  test('a missing file is PATH_UNUSABLE', async () => {
    await assert.rejects(loadTokenizer(`${GOLDEN_MODEL_PATH}.none`), {
      code: 'PATH_UNUSABLE',
      message: /spiece\.model\.none/,
    });
    assert.equal((await loadTokenizer(GOLDEN_MODEL_PATH)).hash, tokenizer.hash);
  });

  test('a text over the bound is rejected, and the next one is encoded', () => {
    assert.throws(() => tokenizer.encode('a'.repeat(MAX_TEXT_UNITS + 1)), { code: 'SOURCE_MALFORMED' });
    assert.deepEqual(tokenizer.encode('the value'), [3, 56]);
  });

  test('a long text is encoded completely; releasing scratch memory does not change ids', () => {
    const long = 'the value of a list '.repeat(100_000);
    const ids = tokenizer.encode(long);
    assert.equal(ids.length, 500_000);
    assert.deepEqual(ids.slice(-5), [3, 56, 12, 8, 74]);
    assert.deepEqual(tokenizer.encode('the value of a list'), [3, 56, 12, 8, 74]);
  });
});

describe('any text', () => {
  const anyText = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 60 }).map((units) => String.fromCharCode(...units)),
    fc
      .array(fc.constantFrom('the', ' ', '\u2581', '<extra_id_3>', '\ud800', '\u0301', '\ufdfa', 'é', '\0'), {
        maxLength: 20,
      })
      .map((parts) => parts.join('')),
  );

  test('encodes to ids of the vocabulary and decodes, also with lone surrogates', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const ids = tokenizer.encode(text);
        assert.ok(ids.every((id) => id > 1 && id < tokenizer.vocabSize));
        assert.equal(typeof tokenizer.decode(ids), 'string');
      }),
      { numRuns: 1000 },
    );
  });

  test('decodes to its normalized form if all characters are known', () => {
    const known = Array.from({ length: plain.numPieces }, (_, id) => plain.pieceOf(id)).slice(3);
    const knownText = fc.array(fc.constantFrom(...known, ' ', '  '), { maxLength: 30 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(knownText, (text) => {
        const ids = plain.encode(text);
        const visible = plain.normalize(text).replaceAll('\u2581', ' ').trimStart();
        assert.ok(!ids.includes(2));
        assert.equal(plain.decode(ids), visible);
        assert.deepEqual(plain.encode(plain.decode(ids)), ids);
      }),
      { numRuns: 500 },
    );
  });

  test('any ids decode', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -5, max: 5000 })), (ids) => typeof tokenizer.decode(ids) === 'string'),
    );
  });
});
