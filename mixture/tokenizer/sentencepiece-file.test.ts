import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { TrainerError } from '../../shared/errors.ts';
import { readGoldenLines, readGoldenModel } from './golden-lines.fixture.ts';
import { MessageReader, MessageWriter } from './protobuf.ts';
import { parseSentencePieceModel, serializeSentencePieceModel, writeSentencePieceModel } from './sentencepiece-file.ts';
import { createTokenizer } from './tokenizer.ts';
import type { Piece, UnigramModel } from './unigram-model.ts';

const bytes = readGoldenModel();
const golden = parseSentencePieceModel(bytes, 'golden');

/** A model that is small enough to truncate at every byte. */
function tinyModel(changes: Partial<UnigramModel> = {}, extraPieces: readonly Piece[] = []): UnigramModel {
  return {
    pieces: [...golden.pieces.slice(0, 8), ...extraPieces],
    normalizer: { ...golden.normalizer, charsmap: new Uint8Array(0) },
    byteFallback: false,
    unkSurface: golden.unkSurface,
    ...changes,
  };
}

const isInvalid = (thrown: unknown): boolean => thrown instanceof TrainerError && thrown.code === 'TOKENIZER_INVALID';

describe('spiece.model', () => {
  test('is read with the values that SentencePiece wrote', () => {
    assert.equal(golden.pieces.length, 4000);
    assert.deepEqual(
      golden.pieces.slice(0, 3).map(({ text, kind }) => [text, kind]),
      [
        ['<pad>', 'control'],
        ['</s>', 'control'],
        ['<unk>', 'unknown'],
      ],
    );
    assert.equal(golden.normalizer.name, 'nmt_nfkc');
    assert.equal(golden.normalizer.charsmap.length, 240_007);
    assert.equal(golden.byteFallback, false);
  });

  test('equals the original after writing and reading', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tokenizer-'));
    try {
      const path = join(folder, 'spiece.model');
      await writeSentencePieceModel(path, golden);
      assert.deepEqual(parseSentencePieceModel(await readFile(path), path), golden);
      await assert.rejects(writeSentencePieceModel(join(folder, 'none', 'x'), golden), { code: 'PATH_UNUSABLE' });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('has these bytes for a piece', () => {
    const piece = new MessageWriter().string(1, '\u2581a').float(2, -1.5).int32(3, 4).int32(41, -1).finish();
    assert.equal(
      Buffer.from(piece).toString('hex'),
      '0a04e2968161' + '150000c0bf' + '1804' + 'c802' + 'ffffffffffffffffff01',
    );
    const reader = new MessageReader(piece, 'piece');
    assert.ok(reader.next() && reader.string() === '\u2581a');
    assert.ok(reader.next() && reader.float() === -1.5);
    assert.ok(reader.next() && reader.int32() === 4);
    assert.ok(reader.next() && reader.field === 41 && reader.int32() === -1);
    assert.ok(!reader.next());
  });
});

describe('a damaged spiece.model', () => {
  test('truncated at any byte is TOKENIZER_INVALID', () => {
    const whole = serializeSentencePieceModel(tinyModel());
    assert.doesNotThrow(() => createTokenizer(whole, 'whole'));
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => createTokenizer(whole.subarray(0, length), 'cut'), isInvalid, `cut at ${length}`);
    }
  });

  test('the golden file truncated anywhere is TOKENIZER_INVALID', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length - 1 }), (length) => {
        assert.throws(() => createTokenizer(bytes.subarray(0, length), 'cut'), isInvalid);
      }),
      { numRuns: 100 },
    );
  });

  test('with flipped bits is rejected or still encodes; no other error is thrown', () => {
    const text = readGoldenLines()
      .slice(0, 300)
      .map((line) => line.text)
      .join(' ');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 })), {
          minLength: 1,
          maxLength: 30,
        }),
        (flips) => {
          const damaged = Uint8Array.from(bytes);
          for (const [at, mask] of flips) damaged[at] = damaged[at]! ^ mask;
          try {
            const tokenizer = createTokenizer(damaged, 'damaged');
            tokenizer.decode(tokenizer.encode(text));
          } catch (thrown) {
            assert.ok(isInvalid(thrown), String(thrown));
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  test('random bytes are TOKENIZER_INVALID', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (random) =>
        assert.throws(() => createTokenizer(random, 'random'), isInvalid),
      ),
    );
  });
});

describe('a model that is not for T5 is rejected; the error says what was found', () => {
  const normal = (text: string, score = -1): Piece => ({ text, score, kind: 'normal' });
  const [pad, eos, unk, ...rest] = tinyModel().pieces as [Piece, Piece, Piece, ...Piece[]];
  const cases: [string, UnigramModel, RegExp][] = [
    ['no pad', tinyModel({ pieces: [unk, eos, pad, ...rest] }), /expected pad .* at id 0, found unknown piece "<unk>"/],
    [
      'no EOS',
      tinyModel({ pieces: [pad, normal('x'), unk, ...rest] }),
      /expected EOS .* at id 1, found normal piece "x"/,
    ],
    ['too few pieces', tinyModel({ pieces: [pad, eos] }), /expected unk .* at id 2, found nothing/],
    ['no normal pieces', tinyModel({ pieces: [pad, eos, unk] }), /no normal pieces/],
    ['a second unk', tinyModel({}, [{ text: 'u', score: 0, kind: 'unknown' }]), /second unknown piece at id 8/],
    ['a piece twice', tinyModel({}, [normal(rest[0]!.text)]), /is at id 3 and at id 8/],
    ['an empty piece', tinyModel({}, [normal('')]), /piece 8 is empty/],
    ['a score that is not a number', tinyModel({}, [normal('x', NaN)]), /piece 8 has score NaN/],
    [
      'byte pieces without fallback',
      tinyModel({}, [{ text: '<0x00>', score: 0, kind: 'byte' }]),
      /byte_fallback is off/,
    ],
    ['fallback without all bytes', tinyModel({ byteFallback: true }), /needs 256 byte pieces, found 0/],
  ];
  for (const [name, model, message] of cases) {
    test(name, () => assert.throws(() => serializeSentencePieceModel(model), { code: 'TOKENIZER_INVALID', message }));
  }

  const fileWith = (trainer: MessageWriter, more = new MessageWriter()): Uint8Array => {
    const pieces = serializeSentencePieceModel(tinyModel());
    const head = new MessageWriter().bytes(2, trainer.finish()).bytes(3, new Uint8Array(0)).finish();
    return Buffer.concat([pieces, head, more.finish()]);
  };
  const t5 = (): MessageWriter => new MessageWriter().int32(40, 2).int32(42, 1).int32(43, 0);
  const files: [string, Uint8Array, RegExp][] = [
    ['a BPE model', fileWith(t5().int32(3, 2)), /found 2 \(BPE\)/],
    [
      "SentencePiece's default ids",
      fileWith(new MessageWriter()),
      /expected pad_id 0, eos_id 1, unk_id 2, found -1, 2, 0/,
    ],
    ['whitespace as suffix', fileWith(t5().bool(24, true)), /treat_whitespace_as_suffix/],
    [
      'rules for decoding',
      fileWith(t5(), new MessageWriter().bytes(5, Uint8Array.of(0x12, 1, 0))),
      /rules for decoding/,
    ],
    ['a damaged charsmap', fileWith(t5(), new MessageWriter().bytes(3, Uint8Array.of(0x12, 3, 9, 9, 9))), /charsmap/],
    [
      'the name of an extra id',
      serializeSentencePieceModel(tinyModel({}, [normal('\u2581<extra_id_5>')])),
      /name of an extra id/,
    ],
  ];
  for (const [name, file, message] of files) {
    test(name, () => assert.throws(() => createTokenizer(file, 'f'), { code: 'TOKENIZER_INVALID', message }));
  }
});
