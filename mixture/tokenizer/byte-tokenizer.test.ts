import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { BYTE_VOCABULARY } from '../../shared/byte-vocabulary.ts';
import { ByteTokenizer } from './byte-tokenizer.ts';
import { checkpointTokenizer } from './checkpoint-tokenizer.ts';
import { findTokenizer } from './find-tokenizer.ts';
import { loadTokenizer } from './tokenizer.ts';

const tokenizer = new ByteTokenizer(100);
const folder = mkdtempSync(join(tmpdir(), 'exmix-byte-tokenizer-'));
after(() => rmSync(folder, { recursive: true }));

/** Made by ByT5Tokenizer of Transformers 5.24.0, without EOS. */
const IDS_OF_TEXTS: readonly (readonly [string, readonly number[]])[] = [
  ['', []],
  ['Life is', [79, 108, 105, 104, 35, 108, 118]],
  ['é ñ 日本語 🙂', [198, 172, 35, 198, 180, 35, 233, 154, 168, 233, 159, 175, 235, 173, 161, 35, 243, 162, 156, 133]],
  ['a\u0301  b', [100, 207, 132, 35, 35, 101]],
  ['\uFFFD ok', [242, 194, 192, 35, 114, 110]],
  ['tab\tnew\nline', [119, 100, 101, 12, 113, 104, 122, 13, 111, 108, 113, 104]],
  ['\uFEFFx', [242, 190, 194, 123]],
];

describe('the vocabulary of bytes', () => {
  for (const [text, ids] of IDS_OF_TEXTS)
    test(`${JSON.stringify(text)} has the ids of Transformers, and back`, () => {
      assert.deepEqual(tokenizer.encode(text), ids);
      assert.equal(tokenizer.decode(ids), text);
    });

  test('pad, EOS, unk, bytes that are no UTF-8 and ids above the bytes are left out, as in Transformers', () => {
    for (const [ids, text] of [
      [[3, 258, 104, 1, 0], '\0e'],
      [[198, 104], 'e'],
      [[233, 154, 100], 'a'],
      [[242, 194, 192, 243], '\uFFFD'],
      [[2, 104, 300], 'e'],
    ] as const)
      assert.equal(tokenizer.decode(ids), text, JSON.stringify(ids));
  });

  test('any text comes back, and encodeInto writes what encode returns, or nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.nat({ max: 3 }), (text, at) => {
        const ids = tokenizer.encode(text);
        assert.equal(tokenizer.decode(ids), text);
        const out = new Int32Array(at + ids.length);
        assert.equal(tokenizer.encodeInto(text, out, at), ids.length);
        assert.deepEqual([...out.subarray(at)], ids);
        if (ids.length === 0) return;
        const short = new Int32Array(ids.length - 1);
        assert.equal(tokenizer.encodeInto(text, short, 0), ids.length);
        assert.ok(short.every((id) => id === 0));
      }),
    );
  });

  test('sentinels are the last bytes downwards, as ByT5 was trained', () => {
    assert.deepEqual([tokenizer.vocabSize, tokenizer.sentinelId(0), tokenizer.sentinelId(99)], [259, 258, 159]);
    assert.equal(tokenizer.idOf('<extra_id_0>'), 258);
    assert.throws(() => tokenizer.sentinelId(100), { code: 'INTERNAL' });
    assert.throws(() => new ByteTokenizer(257), { code: 'CONFIG_INVALID' });
  });

  test('each id has a piece of its own, and the piece its id', () => {
    for (let id = 0; id < tokenizer.vocabSize; id++) assert.equal(tokenizer.idOf(tokenizer.pieceOf(id)), id);
    assert.throws(() => tokenizer.pieceOf(259), { code: 'INTERNAL' });
    assert.equal(tokenizer.idOf('a'), undefined);
  });

  test('it is loaded by its name, and found in a folder that a checkpoint of it has written', async () => {
    const loaded = await loadTokenizer(BYTE_VOCABULARY);
    assert.equal(loaded.hash, tokenizer.hash);
    assert.notEqual((await loadTokenizer(BYTE_VOCABULARY, { numExtraIds: 10 })).hash, tokenizer.hash);
    await assert.rejects(loadTokenizer(BYTE_VOCABULARY, { numExtraIds: -1 }), { code: 'CONFIG_INVALID' });
    assert.equal(await findTokenizer(folder), undefined);
    for (const text of ['{', '3', '{"tokenizer_class":"T5Tokenizer"}']) {
      writeFileSync(join(folder, 'tokenizer_config.json'), text);
      assert.equal(await findTokenizer(folder), undefined);
    }
    for (const file of await checkpointTokenizer(BYTE_VOCABULARY))
      writeFileSync(join(folder, file.name), 'text' in file ? file.text : '');
    assert.equal(await findTokenizer(folder), BYTE_VOCABULARY);
  });
});
