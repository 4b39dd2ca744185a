import assert from 'node:assert/strict';
import { Readable, Writable } from 'node:stream';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MAX_LINE_BYTES, parseJsonLine, readLines, transformLines } from './line-stream.ts';

async function linesOf(chunks: (Uint8Array | string)[]): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLines(Readable.from(chunks), 'test')) lines.push(line);
  return lines;
}

const never = new AbortController().signal;

describe('readLines', () => {
  test('the mark of a file is dropped, and U+FEFF at the start of a later line is text', async () => {
    assert.deepEqual(await linesOf([Buffer.from('\ufeffa\n\ufeffb\n')]), ['a', '\ufeffb']);
  });

  test('gives the same lines for any chunks', async () => {
    const text = 'é1\n\nüber\r\n\u{1f600}';
    const bytes = Buffer.from(text);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: bytes.length })), async (cuts) => {
        const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const chunks = places.slice(1).map((end, i) => bytes.subarray(places[i], end));
        assert.deepEqual(await linesOf(chunks), ['é1', '', 'über', '\u{1f600}']);
      }),
      { numRuns: 50 },
    );
  });

  test('names the line that is not UTF-8 or too long', async () => {
    await assert.rejects(linesOf(['a\n', Uint8Array.of(0xff, 0x0a)]), {
      code: 'SOURCE_MALFORMED',
      message: /test, line 2: not valid/,
    });
    const endless = Array.from({ length: 5 }, () => Buffer.alloc(MAX_LINE_BYTES / 4));
    await assert.rejects(linesOf(endless), { code: 'SOURCE_MALFORMED', message: /line 1: longer than/ });
  });
});

describe('transformLines', () => {
  test('stops reading while the output is full', async () => {
    let numRead = 0;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      for (; numRead < 1000; numRead++) yield await Promise.resolve(Buffer.from('x\n'));
    };
    const abort = new AbortController();
    const stuck = new Writable({ highWaterMark: 10, write: () => undefined }); // never finishes a write
    const done = transformLines(source(), stuck, (line) => line, { where: 'test', signal: abort.signal });
    // Without back-pressure all lines are read before the first immediate: the source needs only microtasks.
    setImmediate(() => abort.abort());
    await assert.rejects(done, { name: 'AbortError' });
    assert.ok(numRead <= 6, `${numRead} lines were read`);
  });

  test('writes all lines before the one that fails', async () => {
    let written = '';
    const output = new Writable({
      write(chunk: Buffer, _encoding, callback) {
        written += chunk.toString();
        callback();
      },
    });
    const input = Readable.from(['"a"\n"b"\n{}\n"c"\n']);
    const isString = (value: unknown): value is string => typeof value === 'string';
    const parse = (line: string, lineNumber: number): string =>
      parseJsonLine(line, lineNumber, 'a JSON string', isString);
    await assert.rejects(transformLines(input, output, parse, { where: 'test', signal: never }), {
      code: 'SOURCE_MALFORMED',
      message: 'line 3: expected a JSON string, found {}',
    });
    assert.equal(written, 'a\nb\n');
    assert.throws(() => parse('', 7), {
      code: 'SOURCE_MALFORMED',
      message: /line 7: expected a JSON string, found ""/,
    });
  });

  test('ends without error if the reader of the output goes away, but not for another failure', async () => {
    const failing = (code: string): Writable =>
      new Writable({ write: (_chunk, _encoding, callback) => callback(Object.assign(new Error(code), { code })) });
    const run = (output: Writable): Promise<void> =>
      transformLines(Readable.from(['a\n', 'b\n', 'c\n']), output, (line) => line, { where: 'test', signal: never });
    await run(failing('EPIPE'));
    await assert.rejects(run(failing('EIO')), { code: 'PATH_UNUSABLE', message: /EIO/ });
  });
});
