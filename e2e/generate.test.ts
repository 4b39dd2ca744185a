/** `exmix generate` with real worker processes, on a small model with random weights: the same bytes for any number of workers, killed or not. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { gzipSync } from 'node:zlib';
import { writeZstd } from '../mixture/sources/zstd.fixture.ts';
import { readGoldenLines } from '../mixture/tokenizer/golden-lines.fixture.ts';
import { writeRandomModel } from '../worker/model/random-model.fixture.ts';
import { exmix, temporaryFolder, TINY } from './exmix-process.ts';

const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
/** Only guards against hanging, ms. */
const TIMEOUT_MS = 600_000;

const folder = temporaryFolder();
const model = join(folder, 'model');
const home = join(folder, 'home');
const env = { ...process.env, EXMIX_HOME: home };

const golden = readGoldenLines()
  .map(({ text }) => text)
  .filter((text) => text.length > 20 && text.length < 300 && !/[\n\r]/u.test(text));
/** Three windows, and a part of one. */
const texts = Array.from({ length: 3_300 }, (_, at) => `${golden[at % golden.length]!} ${at}`);
const input = join(folder, 'texts.txt');

/** Drawn tokens depend on the number of their example, and every output has 5 of them. */
const SAMPLED = ['--sample', '--seed', '5', '--max-new-tokens', '5', '--min-new-tokens', '5'];
const FLAGS = ['--engine', 'wasm', '--batch-tokens', '1000', ...SAMPLED];

const path = (name: string): string => join(folder, name);
const argumentsOf = (...args: string[]): string[] => [EXMIX, 'generate', model, ...FLAGS, ...args];

function generate(args: readonly string[], text: string | Buffer = '') {
  return spawnSync(process.execPath, argumentsOf(...args), { env, input: text, encoding: 'utf8', timeout: TIMEOUT_MS });
}

interface Running {
  readonly child: ChildProcess;
  readonly stderr: () => string;
  readonly ended: Promise<unknown>;
  /** Resolves when the folder has something that a function finds; fails when the command ends before. */
  readonly until: (place: string, isThere: () => boolean) => Promise<void>;
}

function start(args: readonly string[], stdin: 'ignore' | 'pipe' = 'ignore'): Running {
  const child = spawn(process.execPath, argumentsOf(...args), { env, stdio: [stdin, 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = once(child, 'exit');
  return {
    ...{ child, stderr: () => stderr, ended },
    until: async (place, isThere) => {
      mkdirSync(place, { recursive: true });
      const found = new Promise<void>((resolve) => {
        const look = (): void => {
          if (!isThere()) return;
          watcher.close();
          resolve();
        };
        const watcher = watch(place, look);
        look();
      });
      await Promise.race([found, ended.then(() => assert.fail(`the command ended before: ${stderr}`))]);
    },
  };
}

const hasLines = (file: string) => (): boolean => existsSync(file) && statSync(file).size > 0;

before(async () => {
  await writeRandomModel(model);
  writeFileSync(input, texts.map((text) => `${text}\n`).join(''));
  const { status, stderr } = generate(['--input', input, '--output', path('one.jsonl')]);
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^\d+ of (?:about )?3\d\d\d examples, [\d.]+ examples\/s, ETA \d+ s$/mu);
});

describe('exmix generate with workers', { timeout: TIMEOUT_MS }, () => {
  const one = (): string => readFileSync(path('one.jsonl'), 'utf8');

  test('answers every input in its place', () => {
    const lines = one().trimEnd().split('\n').map((line) => JSON.parse(line) as { index: number; inputs: string; prediction: string }); // prettier-ignore
    assert.deepEqual(lines.map(({ index, inputs }) => [index, inputs]), texts.map((text, index) => [index, text])); // prettier-ignore
    assert.ok(new Set(lines.map(({ prediction }) => prediction)).size > texts.length / 2);
  });

  for (const workers of ['2', '3'])
    test(`${workers} workers give the bytes of one, in a file and on standard output`, () => {
      const output = path(`with-${workers}.jsonl`);
      const { status, stderr } = generate(['--input', input, '--output', output, '--workers', workers]);
      assert.equal(status, 0, stderr);
      assert.equal(readFileSync(output, 'utf8'), one());
      const piped = generate(['--workers', workers], readFileSync(input));
      assert.equal(piped.status, 0, piped.stderr);
      assert.equal(piped.stdout, one());
    });

  test('a worker that is killed in the middle costs its batches only, and another takes its place', async () => {
    const output = path('killed-worker.jsonl');
    const { child, stderr, ended, until } = start(['--input', input, '--output', output, '--workers', '2']);
    await until(folder, hasLines(output));
    const file = join(`${output}.work`, 'workers', 'local-0.json');
    process.kill((JSON.parse(readFileSync(file, 'utf8')) as { process: { pid: number } }).process.pid, 'SIGKILL');
    await ended;
    assert.equal(child.exitCode, 0, stderr());
    const log = readFileSync(join(`${output}.work`, 'generate.jsonl'), 'utf8');
    assert.match(log, /"exitCode":null,"signal":"SIGKILL","msg":"worker exited"/u);
    assert.equal(readFileSync(output, 'utf8'), one());
  });

  test('a command that is killed whole goes on when it is started again, also with another number of workers', async () => {
    const output = path('killed.jsonl');
    const { child, ended, until } = start(['--input', input, '--output', output, '--workers', '2']);
    await until(folder, hasLines(output));
    child.kill('SIGKILL');
    await ended;
    const before = readFileSync(output, 'utf8');
    assert.ok(one().startsWith(before) && before.length < one().length);
    const again = generate(['--input', input, '--output', output, '--workers', '3']);
    assert.equal(again.status, 0, again.stderr);
    assert.match(again.stderr, /^\d+ outputs, [12]\d\d\d were there$/mu);
    assert.equal(readFileSync(output, 'utf8'), one());
    const third = generate(['--input', input, '--output', output]);
    assert.deepEqual([third.status, /^0 outputs, 3300 were there$/mu.test(third.stderr)], [0, true], third.stderr);
  });

  test('a worker that dials in from outside computes, without any of this host', async () => {
    const output = path('outside.jsonl');
    const { child, stderr, ended, until } = start(['--input', input, '--output', output, '--workers', '0']);
    const announced = join(`${output}.work`, 'coordinator.json');
    await until(`${output}.work`, hasLines(announced));
    const { url, token } = JSON.parse(readFileSync(announced, 'utf8')) as { url: string; token: string };
    const worker = spawn(process.execPath, [EXMIX, 'worker', '--url', url], { env: { ...env, EXMIX_TOKEN: token }, stdio: 'ignore' }); // prettier-ignore
    const [status] = (await once(worker, 'exit')) as [number];
    await ended;
    assert.deepEqual([child.exitCode, status], [0, 0], stderr());
    assert.match(stderr(), /workers of other hosts join by: exmix worker --url ws:/u);
    assert.equal(readFileSync(output, 'utf8'), one());
  });

  test('reads parquet, gzip and zstd, with the bytes of plain lines', () => {
    const some = texts.slice(0, 40);
    const lines = some.map((text) => `${text}\n`).join('');
    const expected = generate([], lines).stdout;
    assert.equal(expected.split('\n').length, 41);
    const question = { name: 'question', data: some, type: 'STRING' as const };
    const other = { name: 'id', data: some.map((_, at) => at), type: 'INT32' as const };
    writeFileSync(path('some.parquet'), Buffer.from(parquetWriteBuffer({ columnData: [other, question], rowGroupSize: 7 }))); // prettier-ignore
    writeFileSync(path('some.txt.gz'), gzipSync(lines));
    writeFileSync(path('some.jsonl.zst'), writeZstd([Buffer.from(some.map((text) => `${JSON.stringify({ question: text })}\n`).join(''))])); // prettier-ignore
    for (const [name, ...args] of [
      ['some.parquet', '--field', 'question'],
      ['some.txt.gz'],
      ['some.jsonl.zst', '--field', 'question'],
    ]) {
      // prettier-ignore
      const { status, stdout, stderr } = generate(['--input', path(name!), ...args]);
      assert.equal(status, 0, stderr);
      assert.equal(stdout, expected, name);
    }
    const wrong = generate(['--input', path('some.parquet'), '--field', 'questoin']);
    assert.deepEqual([wrong.status, /some\.parquet: no column "questoin"; did you mean question\?/u.test(wrong.stderr)], [2, true], wrong.stderr); // prettier-ignore
    const number = generate(['--input', path('some.parquet'), '--field', 'id']);
    assert.deepEqual([number.status, /some\.parquet, row 1: expected text in field "id", found 0;/u.test(number.stderr)], [3, true], number.stderr); // prettier-ignore
    const absent = generate(['--input', path('absent.parquet')]);
    assert.deepEqual([absent.status, /absent\.parquet cannot be read/u.test(absent.stderr)], [3, true], absent.stderr);
    const piped = generate(['--format', 'parquet'], readFileSync(path('some.parquet')));
    assert.deepEqual([piped.status, /give --input/u.test(piped.stderr)], [2, true], piped.stderr);
  });

  test('a bad line is told with its number after the windows before it are written, and a corrected input goes on', () => {
    const lines = texts.slice(0, 2_200).map((text) => JSON.stringify({ inputs: text }));
    const bad = path('bad.jsonl');
    writeFileSync(bad, [...lines.slice(0, 1_500), '{"inputs": ', ...lines.slice(1_501)].join('\n'));
    const output = path('bad-outputs.jsonl');
    const { status, stderr } = generate(['--input', bad, '--output', output, '--workers', '2']);
    assert.equal(status, 3, stderr);
    assert.match(stderr, /bad\.jsonl, line 1501: expected a JSON object, found "\{\\"inputs\\": "; 1024 outputs are there; the same command goes on/u); // prettier-ignore
    const expected = one().split('\n').slice(0, 2_200).join('\n') + '\n';
    assert.equal(readFileSync(output, 'utf8'), expected.split('\n').slice(0, 1_024).join('\n') + '\n');
    writeFileSync(bad, lines.join('\n'));
    const again = generate(['--input', bad, '--output', output]);
    assert.equal(again.status, 0, again.stderr);
    assert.equal(readFileSync(output, 'utf8'), expected);
  });

  test('ends without an error when the reader of its output is gone, and leaves nothing behind', async () => {
    const temporary = path('temporary');
    mkdirSync(temporary);
    const child = spawn(process.execPath, argumentsOf('--input', input), { env: { ...env, TMPDIR: temporary }, stdio: ['ignore', 'pipe', 'pipe'] }); // prettier-ignore
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdout.once('data', () => child.stdout.destroy());
    const [status] = (await once(child, 'exit')) as [number];
    assert.equal(status, 0, stderr);
    assert.deepEqual(readdirSync(temporary), []);
  });

  test('a signal ends a command that waits for its input', async () => {
    const output = path('waiting.jsonl');
    const { child, stderr, ended, until } = start(['--output', output], 'pipe');
    child.stdin!.write(texts.slice(0, 1_024).map((text) => `${text}\n`).join('')); // prettier-ignore
    await until(folder, hasLines(output));
    child.kill('SIGINT');
    await ended;
    assert.equal(child.exitCode, 130, stderr());
    assert.match(stderr(), /1024 outputs are there; the same command goes on/u);
  });

  test('counts inputs that are longer than those of the training', async () => {
    const run = path('run');
    const trained = await exmix(['train', '--config', TINY, '--steps', '1', '--set', 'featureLengths.inputs=64', '--run-dir', run], home); // prettier-ignore
    assert.equal(trained.code, 0, trained.stdout + trained.stderr);
    const long = 'many words in a line '.repeat(12);
    const args = [EXMIX, 'generate', run, '--engine', 'wasm', '--max-new-tokens', '4'];
    const ended = spawnSync(process.execPath, args, { env, input: `short\n${long}\n${long}\n`, encoding: 'utf8' });
    assert.equal(ended.status, 0, ended.stderr);
    assert.match(ended.stderr, /^warning: 2 inputs are longer than the 64 tokens that the model was trained with$/mu);
  });
});
