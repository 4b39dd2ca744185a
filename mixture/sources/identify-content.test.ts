import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { describeRefused, HEAD_BYTES, identifyContent, identifyLayout, isRefused } from './identify-content.ts';
import { writeExample, writeTfrecords } from './tfrecord/tfrecord.fixture.ts';

const bytes = (text: string) => Buffer.from(text, 'latin1');
const utf16 = (text: string) => Buffer.from(text, 'utf16le');

describe('the first bytes of a file', () => {
  for (const [kind, head] of [
    ['gzip', gzipSync('{}\n')],
    ['zlib', deflateSync('some text, some text\n')],
    ['zlib', deflateSync('some text, some text\n', { level: 1 })],
    ['zstd', bytes('\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00')],
    ['zstd', bytes('\x50\x2a\x4d\x18\x04\x00\x00\x00\x00\x00\x00\x00\x28\xb5\x2f\xfd')],
    ['bzip2', bytes('BZh91AY&SY\x00\x00')],
    ['xz', bytes('\xfd7zXZ\x00\x00\x04')],
    ['lz4', bytes('\x04\x22\x4d\x18\x64\x40')],
    ['zip', bytes('PK\x03\x04\x14\x00')],
    ['7z', bytes('7z\xbc\xaf\x27\x1c')],
    ['tar', Buffer.concat([Buffer.alloc(257, 'a'), bytes('ustar\x0000')])],
    ['utf-16le', utf16('\ufeff{"a":1}\n')],
    ['utf-16be', utf16('\ufeff{"a":1}\n').swap16()],
    ['utf-32', bytes('\xff\xfe\0\0a\0\0\0')],
    ['utf-16le without a mark', utf16('{"a": "plain"}\n')],
    ['utf-16be without a mark', utf16('{"a": "plain"}\n').swap16()],
    ['git-lfs', bytes(`version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 12345\n`)],
    ['html', bytes('<!DOCTYPE html>\n<html><head><title>Sign in</title>')],
    ['html', bytes('\xef\xbb\xbf\r\n  <HTML lang="en">')],
    ['html', bytes('<!-- generated -->\n<html>')],
    ['html', bytes('<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">')],
    ['xml', bytes('<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>')],
    ['xml', bytes('<Error><Code>NoSuchKey</Code></Error>')],
    ['parquet', new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'a', data: ['x'] }] }))],
    ['tfrecord', writeTfrecords([writeExample({ a: ['x'] })])],
    ['pdf', bytes('%PDF-1.7\n')],
    ['arrow', bytes('ARROW1\0\0')],
    ['sqlite', bytes('SQLite format 3\0')],
  ] as const)
    test(`tell ${kind} (${Buffer.from(head)
      .toString('latin1', 0, 12)
      .replace(/[^ -~]/gu, '.')})`, () => {
      assert.equal(identifyContent(head), kind);
      if (isRefused(kind)) assert.ok(describeRefused(kind).remedy.length > 5);
    });

  test('of text, and of no bytes, tell nothing', () => {
    for (const text of [
      '',
      'a',
      '{"a":1}\n',
      '[1]',
      'x^2 + y^2 = z^2\n',
      'xylophone\n',
      'a < b\n',
      'Rare earths',
      'BZh9 bus',
      '<p>a</p>',
    ])
      assert.equal(identifyContent(Buffer.from(text)), 'other', text);
    assert.equal(identifyContent(Buffer.from('größer\nsmåkager\n')), 'other');
  });

  test('of a TFRecord whose length looks like another magic number tell tfrecord', () => {
    // 1f 8b 08 00 is gzip without flags, 78 9c zlib: records of 559,903 B and 40,056 B.
    for (const length of [0x088b1f, 0x9c78])
      assert.equal(identifyContent(writeTfrecords([new Uint8Array(length)]).subarray(0, HEAD_BYTES)), 'tfrecord');
  });

  test('never fail, for any bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (any) => typeof identifyContent(any) === 'string'));
  });
});

describe('the layout of text', () => {
  const long = `"${'x'.repeat(HEAD_BYTES)}"`;
  for (const [layout, text] of [
    ['json-values', '[{"q":"a"},{"q":"b"}]'],
    ['json-values', '\ufeff [\n  {\n    "q": "a"\n  }\n]\n'],
    ['json-values', '{\n  "q": "a"\n}\n{\n  "q": "b"\n}\n'],
    ['json-values', '{"q":\n"a"}'],
    ['json-values', '{\n  "q": NaN\n}\n'],
    ['json-values', `[{"q":${long}},\n{}]`],
    ['json-values', `{\n"q":${long}}`],
    ['json-values', '[\n{"q":"a",}\n]'],
    ['lines', '{"q":"a"}\n{"q":"b"}\n'],
    ['lines', `{"q":${long}}\n`],
    ['lines', '{"a":1\n[1]\nnull\n'],
    ['lines', '{"a":1,\n{"a":2}\n'],
    ['lines', '[1]\n{"a":1}\n'],
    ['lines', '[]\n[]\n'],
    ['lines', '{"a":1\n'],
    ['lines', '[note] to self\n{"a":1}\n'],
    ['lines', ''],
    ['lines', 'null\n'],
    ['cr-lines', '{"a":1}\r{"a":2}\r'],
  ] as const)
    test(`of ${JSON.stringify(text.slice(0, 40))} in jsonl is ${layout}`, () => {
      assert.equal(identifyLayout(Buffer.from(text).subarray(0, HEAD_BYTES), 'jsonl'), layout);
    });

  for (const [format, layout, text] of [
    ['csv', 'cr-lines', 'q,a\rfoo,bar\r'],
    ['csv', 'cr-lines', 'q,a\rfoo,bar\nx,y\n'],
    ['csv', 'lines', 'q,a\r\nfoo,"a\rb"\r\n'],
    ['csv', 'lines', '"q\r",a\nfoo,bar\n'],
    ['csv', 'lines', 'q,a\r'],
    ['text', 'cr-lines', 'one\rtwo\r'],
    ['text', 'lines', 'one\rstill one\ntwo\n'],
    ['text', 'lines', '[{"q":"a"}]'],
  ] as const)
    test(`of ${JSON.stringify(text)} in ${format} is ${layout}`, () => {
      assert.equal(identifyLayout(Buffer.from(text), format), layout);
    });
});
