import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import type { FilesSource } from '../../tasks/task.ts';
import { readSource, type ReadOptions } from '../read-unit.ts';
import { resolveSource } from '../resolve-source.ts';
import { createSourceAccess } from '../source-access.ts';
import { crc32c } from './crc32c.ts';
import { parseExample } from './example-message.ts';
import { FrameReader } from './read-tfrecords.ts';
import { writeExample, writeTfrecords } from './tfrecord.fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-tfrecord-'));
after(() => rmSync(folder, { recursive: true }));
const access = createSourceAccess({ cacheFolder: join(folder, 'cache'), environment: {} });

let numFiles = 0;
async function read(
  bytes: Uint8Array,
  options: Partial<ReadOptions> & { gz?: boolean } = {},
): Promise<[number, unknown][]> {
  const name = `seqio-${numFiles++}.tfrecord-00000-of-00001${options.gz === true ? '.gz' : ''}`;
  const location = join(folder, name);
  writeFileSync(location, options.gz === true ? gzipSync(bytes) : bytes);
  const source: FilesSource = { kind: 'files', format: 'tfrecord', quotes: true, files: [{ location, name }] };
  const rows: [number, unknown][] = [];
  for await (const batch of readSource(await resolveSource(source, access), { access, ...options }))
    for (const record of batch) rows.push([record.row, record.ok ? record.fields : record.reason]);
  return rows;
}

const EXAMPLES = [
  { inputs_pretokenized: ['Does é fit?'], targets: { ints: [3, -1, 2 ** 40] }, score: { floats: [0.5] } },
  { inputs_pretokenized: ['next'], targets: { ints: [7] }, score: { floats: [] } },
] as const;

test('crc32c gives the values of RFC 3720, B.4', () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(ascending), 0x46dd794e);
  assert.equal(crc32c(ascending.toReversed()), 0x113fdb5c);
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
});

test('reads a tf.train.Example as TensorFlow writes it', () => {
  // tf.train.Example with {"a": bytes "hi", "b": int64 [1, -1], "c": float [1.5]}, packed as Python writes it.
  const feature = [
    '0a0b' + '0a0161' + '1206' + '0a04' + '0a026869',
    '0a14' + '0a0162' + '120f' + '1a0d' + '0a0b' + '01' + 'ffffffffffffffffff01',
    '0a0d' + '0a0163' + '1208' + '1206' + '0a04' + '0000c03f',
  ].join('');
  const message = Buffer.from(`0a32${feature}`, 'hex');
  assert.equal(message.length, 0x32 + 2);
  assert.deepEqual(parseExample(message, []), { ok: true, fields: { a: 'hi', b: [1, -1], c: 1.5 } });
});

describe('tfrecord', () => {
  for (const gz of [false, true])
    test(`gives features by name: one value alone, none or several as a list${gz ? ' (gzip)' : ''}`, async () => {
      const bytes = writeTfrecords(EXAMPLES.map(writeExample));
      assert.deepEqual(await read(bytes, { gz }), [
        [1, { inputs_pretokenized: 'Does é fit?', targets: [3, -1, 2 ** 40], score: 0.5 }],
        [2, { inputs_pretokenized: 'next', targets: 7, score: [] }],
      ]);
      assert.deepEqual(await read(bytes, { gz, requiredFields: ['targets'] }), [
        [1, { targets: [3, -1, 2 ** 40] }],
        [2, { targets: 7 }],
      ]);
    });

  test('a record that is not an example, not UTF-8 or too long is malformed; the others are read', async () => {
    const bytes = writeTfrecords([
      Uint8Array.of(0x0a, 0x05, 0x01),
      writeExample({ a: [Uint8Array.of(0xff)] }),
      writeExample({ a: ['x'.repeat(200)] }),
      writeExample({ a: ['ok'] }),
    ]);
    assert.deepEqual(await read(bytes, { maxRecordBytes: 100 }), [
      [1, 'not a tf.train.Example: it is cut short'],
      [2, 'not a tf.train.Example: feature "a" is not valid UTF-8'],
      [3, 'the record is longer than 100 B'],
      [4, { a: 'ok' }],
    ]);
  });

  test('a changed byte or a truncated record is SOURCE_UNREADABLE', async () => {
    const bytes = writeTfrecords(EXAMPLES.map(writeExample));
    for (let at = 0; at < bytes.length; at += 3) {
      const flipped = Uint8Array.from(bytes);
      flipped[at]! ^= 0x10;
      await assert.rejects(
        read(flipped),
        { code: 'SOURCE_UNREADABLE', message: /checksum of the (length|data)/ },
        `${at}`,
      );
    }
    const first = writeTfrecords([writeExample(EXAMPLES[0])]).length;
    for (let length = 1; length < bytes.length; length += 5)
      if (length !== first)
        await assert.rejects(read(bytes.subarray(0, length)), { message: /truncated inside record/ }, `${length}`);
  });

  test('reads back any examples, for any chunks', () => {
    const feature = fc.oneof(
      fc.array(fc.string({ unit: 'binary', maxLength: 5 }), { maxLength: 3 }),
      fc.record({ ints: fc.array(fc.maxSafeInteger(), { maxLength: 3 }) }),
      fc.record({ floats: fc.array(fc.float({ noNaN: true }), { maxLength: 3 }) }),
    );
    const example = fc.dictionary(fc.constantFrom('a', 'b', 'ü'), feature);
    fc.assert(
      fc.property(fc.array(example, { maxLength: 5 }), fc.array(fc.nat(30), { maxLength: 40 }), (examples, cuts) => {
        const bytes = writeTfrecords(examples.map(writeExample));
        const reader = new FrameReader('x', 1_000);
        const frames = [];
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          frames.push(...reader.push(bytes.subarray(at, at + cut)));
          at = Math.min(bytes.length, at + cut);
        }
        reader.end();
        const found = frames.map((frame) => (frame.ok ? parseExample(frame.data, []) : frame));
        const expected = examples.map((of) =>
          Object.fromEntries(
            Object.entries(of).map(([name, value]) => {
              const list: readonly unknown[] = 'ints' in value ? value.ints : 'floats' in value ? value.floats : value;
              return [name, list.length === 1 ? list[0] : list];
            }),
          ),
        );
        assert.deepEqual(
          found,
          expected.map((fields) => ({ ok: true, fields })),
        );
      }),
      { numRuns: 300 },
    );
  });
});

test('a truncated or changed example is malformed or another example, and parsing ends', () => {
  const whole = writeExample(EXAMPLES[0]);
  let numRefused = 0;
  for (let at = 0; at < whole.length; at++) {
    if (!parseExample(whole.subarray(0, at), []).ok) numRefused += 1;
    for (const bit of [1, 0x80]) {
      const flipped = Uint8Array.from(whole);
      flipped[at]! ^= bit;
      if (!parseExample(flipped, []).ok) numRefused += 1;
    }
  }
  assert.ok(numRefused > whole.length);
});
