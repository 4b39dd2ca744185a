import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { scanMsgpack } from './scan-msgpack.ts';

const packr = new Packr({ useRecords: false, variableMapSize: true });
const BOUNDS = { maxDepth: 16, maxElements: 100_000 };
const scan = (bytes: Uint8Array, bounds = BOUNDS) => scanMsgpack(bytes, bounds);
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** Plain values, as control messages have them. */
const plain = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.string(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(fc.string(), tie('value'), { maxKeys: 20 }),
  ),
})).value;

/** Values and keys in it. */
function countElements(value: unknown): number {
  if (value instanceof Uint8Array || typeof value !== 'object' || value === null) return 1;
  if (Array.isArray(value)) return 1 + value.reduce<number>((sum, child) => sum + countElements(child), 0);
  return 1 + Object.values(value).reduce<number>((sum, child) => sum + 1 + countElements(child), 0);
}

function isPlain(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value);
  if (['string', 'boolean'].includes(typeof value) || value === null || value instanceof Uint8Array) return true;
  if (Array.isArray(value)) return value.every(isPlain);
  return (
    typeof value === 'object' &&
    Object.getPrototypeOf(value) === Object.prototype &&
    Object.values(value).every(isPlain)
  );
}

describe('scan of msgpack', () => {
  test('every plain value that msgpackr encodes passes, with the number of its values', () => {
    fc.assert(
      fc.property(plain, (value) => {
        assert.equal(scan(packr.pack(value)).numElements, countElements(value));
      }),
    );
  });

  test('a message is refused at every cut, and with a byte behind it', () => {
    fc.assert(
      fc.property(plain, fc.nat(), (value, at) => {
        const bytes = packr.pack(value);
        assert.throws(() => scan(bytes.subarray(0, at % bytes.length)), { code: 'MESSAGE_INVALID' });
        assert.throws(() => scan(Buffer.concat([bytes, Buffer.of(0xc0)])), { code: 'MESSAGE_INVALID' });
      }),
    );
  });

  test('bytes that pass are decoded by msgpackr to plain values; others are MESSAGE_INVALID', () => {
    const check = (bytes: Uint8Array): void => {
      try {
        scan(bytes);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'MESSAGE_INVALID');
        return;
      }
      assert.ok(isPlain(packr.unpack(bytes)), Buffer.from(bytes).toString('hex'));
    };
    const flipped = fc.tuple(plain, fc.nat(), fc.nat({ max: 255 })).map(([value, at, byte]) => {
      const bytes = Buffer.from(packr.pack(value));
      bytes[at % bytes.length] = byte;
      return bytes;
    });
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 40 }), flipped), check), { numRuns: 5_000 });
  });

  test('finds the kind of the outermost map only, wherever it stands', () => {
    const inner = { kind: 'inner' };
    for (const [value, kind] of [
      [{ kind: 'report', step: 1 }, 'report'],
      [{ a: inner, b: [inner], kind: 'deal' }, 'deal'],
      [{ a: 'kind', b: inner }, ''],
      [{ kind: 7 }, ''],
      [{ kind: 'x'.repeat(33) }, ''],
      [[inner], ''],
      ['kind', ''],
    ] as const)
      assert.equal(scan(packr.pack(value)).kind, kind);
  });

  for (const [what, text] of [
    ['a date', 'd6ff 00000000'],
    ['a typed array', 'c7 02 74 06 00'],
    ['a set', 'd4 73 00'],
    ['a reference', 'd6 70 00000001'],
    ['a BigInt', 'c7 02 42 01 02'],
    ['a BigInt of 16 MiB that is announced', 'c9 01000000 42 00'],
    ['a fixed extension of 16 B', 'd8 01 00000000000000000000000000000000'],
    ['an extension with a length of 16 bits', 'c8 0001 01 00'],
    ['an unsigned integer of 64 bits', 'cf 0000000000000001'],
    ['a signed integer of 64 bits', 'd3 0000000000000001'],
    ['the type that msgpack never uses', 'c1'],
    ['a number as key', '81 01 02'],
    ['nil as key', '81 c0 02'],
    ['bytes as key', '81 c4 01 61 02'],
    ['an array as key', '81 90 02'],
    ['a map as key', '81 80 02'],
    ['two kinds', '82 a46b696e64 a161 a46b696e64 a162'],
    ['NaN', 'cb 7ff8000000000000'],
    ['infinity', 'cb 7ff0000000000000'],
    ['minus infinity of 32 bits', 'ca ff800000'],
    ['an array that announces more than there is', 'dd ffffffff c0'],
    ['a map that announces more than there is', 'df ffffffff a0 c0'],
    ['a text that announces more than there is', 'db ffffffff 61'],
    ['bytes that announce more than there is', 'c6 ffffffff 61'],
    ['a length without its bytes', 'dc 00'],
    ['nothing', ''],
  ] as const)
    test(`refuses ${what}`, () => assert.throws(() => scan(hex(text)), { code: 'MESSAGE_INVALID' }));

  test('refuses one level and one value more than the bound', () => {
    const nested = (depth: number): Buffer => Buffer.concat([Buffer.alloc(depth, 0x91), Buffer.of(0xc0)]);
    assert.equal(scan(nested(16)).numElements, 17);
    assert.throws(() => scan(nested(17)), { message: /at most 16 maps and arrays/ });
    assert.throws(() => scan(nested(16_000_000)), { message: /at most 16 maps and arrays/ });
    const values = packr.pack(Array.from({ length: 9 }, () => null));
    assert.equal(scan(values, { maxDepth: 1, maxElements: 10 }).numElements, 10);
    assert.throws(() => scan(values, { maxDepth: 1, maxElements: 9 }), { message: /at most 9 values/ });
  });
});
