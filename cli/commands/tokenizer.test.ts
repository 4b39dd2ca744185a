import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { GOLDEN_MODEL_PATH, readGoldenLines } from '../../mixture/tokenizer/golden-lines.fixture.ts';

/** Runs only this command under yargs. Prints an error's code to standard error and exits with status 1. */
const HARNESS = `
import yargs from 'yargs';
import { tokenizerCommand } from '${new URL('tokenizer.ts', import.meta.url).href}';
yargs(process.argv.slice(1)).scriptName('exmix').command({ command: 'tokenizer <command>', ...tokenizerCommand }).strict().exitProcess(false)
  .fail((message, error) => { throw error ?? new Error(message); }).parseAsync()
  .catch((error) => { process.stderr.write(error.code + ': ' + error.message); process.exitCode = 1; });
`;

function run(args: readonly string[], input = ''): { stdout: string; stderr: string; status: number | null } {
  const node = ['--import', 'tsx', '--input-type=module', '-e', HARNESS, 'tokenizer', ...args];
  return spawnSync(process.execPath, node, {
    input,
    encoding: 'utf8',
    cwd: new URL('../..', import.meta.url).pathname,
    timeout: 240_000,
  });
}

const lines = readGoldenLines();
const model = ['--model', GOLDEN_MODEL_PATH];
const toLines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');

let folder = '';
before(async () => (folder = await mkdtemp(join(tmpdir(), 'exmix-tokenizer-'))));
after(() => rm(folder, { recursive: true }));

describe('exmix tokenizer', () => {
  test("encode prints SeqIO's ids of all golden lines", () => {
    const { stdout, status } = run(['encode', ...model], toLines(lines.map(({ text }) => text)));
    assert.equal(stdout, toLines(lines.map(({ ids, seqio_ids }) => seqio_ids ?? ids)));
    assert.equal(status, 0);
  });

  test('encode and decode without extra ids equal SentencePiece', () => {
    const encoded = run(['encode', ...model, '--extra-ids', '0'], toLines(lines.map(({ text }) => text)));
    assert.equal(encoded.stdout, toLines(lines.map(({ ids }) => ids)));
    const decoded = run(['decode', ...model], encoded.stdout);
    assert.equal(decoded.stdout, toLines(lines.map(({ decoded }) => decoded)));
  });

  test('a malformed line is named, and earlier lines are encoded', () => {
    const { stdout, stderr, status } = run(['encode', ...model], '"the value"\nthe value\n');
    assert.equal(stdout, '[3,56]\n');
    assert.equal(stderr, 'SOURCE_MALFORMED: line 2: expected a JSON string, found "the value"');
    assert.equal(status, 1);
    assert.match(
      run(['decode', ...model], '[1,"2"]').stderr,
      /SOURCE_MALFORMED: line 1: expected a JSON array of integers/,
    );
  });

  test('train reads a text that is compressed or in UTF-16, and refuses a page of HTML', () => {
    const text = lines.map((line) => line.text.replaceAll('\n', ' ')).join('\n');
    const models = [Buffer.from(text), gzipSync(text), Buffer.from(`\ufeff${text}`, 'utf16le')].map((content, i) => {
      const [input, output] = [join(folder, `in-${i}.txt`), join(folder, `out-${i}.model`)];
      writeFileSync(input, content);
      const { status, stderr } = run(['train', '--input', input, '--vocab-size', '600', '--output', output]);
      assert.equal(status, 0, stderr);
      return readFileSync(output);
    });
    assert.deepEqual(models[1], models[0]);
    assert.deepEqual(models[2], models[0]);
    const page = join(folder, 'page.txt');
    writeFileSync(page, '<!doctype html><html>Sign in</html>\n');
    const { stderr, status } = run(['train', '--input', page, '--vocab-size', '600', '--output', join(folder, 'x')]);
    assert.notEqual(status, 0);
    assert.match(stderr, /SOURCE_UNREADABLE.*found a page of HTML/);
  });

  test('train writes a model that encode can load', async () => {
    const input = join(folder, 'text.txt');
    const output = join(folder, 'spiece.model');
    await writeFile(input, lines.map(({ text }) => text.replaceAll('\n', ' ')).join('\n'));
    const trained = run(['train', '--input', input, '--vocab-size', '600', '--output', output]);
    assert.equal(trained.stdout, `${output}: 600 pieces\n`);
    const { stdout } = run(['encode', '--model', output], '"the <extra_id_0>"');
    assert.equal((JSON.parse(stdout) as number[]).at(-1), 699);
  });

  test('a missing text file fails with SOURCE_UNREADABLE', () => {
    const missing = join(folder, 'none.txt');
    const { stderr } = run(['train', '--input', missing, '--vocab-size', '600', '--output', join(folder, 'x')]);
    assert.match(stderr, /^SOURCE_UNREADABLE: .*none\.txt/);
  });

  test('the help of a subcommand ends with an example', () => {
    const { stdout, status } = run(['train', '--help']);
    assert.match(stdout, /--vocab-size[^]*Examples:[^]*exmix tokenizer train --input/);
    assert.equal(status, 0);
  });
});
