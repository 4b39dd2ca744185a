/** `exmix generate` in real processes, on a small model with random weights. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { GOLDEN_MODEL_PATH, readGoldenLines } from '../../mixture/tokenizer/golden-lines.fixture.ts';
import { writeRandomModel } from '../../worker/model/random-model.fixture.ts';

const EXMIX = new URL('../exmix.mjs', import.meta.url).pathname;
/** Only guards against hanging, ms. */
const TIMEOUT_MS = 480_000;

const folder = mkdtempSync(join(tmpdir(), 'exmix-generate-'));
after(() => rmSync(folder, { recursive: true }));
const model = join(folder, 'model');
const texts = readGoldenLines()
  .map(({ text }) => text)
  .filter((text) => text.length > 20 && text.length < 300 && !/[\n\r]/u.test(text))
  .slice(0, 40);

interface Line {
  readonly index: number;
  readonly inputs: string;
  readonly prediction: string;
  readonly score: number;
  readonly predictions?: readonly { readonly text: string }[];
  readonly cutTokens?: number;
}

const parseLines = (text: string): Line[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);

function generate(args: readonly string[], input: string | Buffer = '') {
  const command = [EXMIX, 'generate', model, '--engine', 'wasm', '--max-new-tokens', '8', ...args];
  return spawnSync(process.execPath, command, { input, encoding: 'utf8', timeout: TIMEOUT_MS });
}

before(() => writeRandomModel(model));

describe('exmix generate', () => {
  const input = texts.map((text) => `${text}\n`).join('');

  test('answers each line in its order, with the same outputs for any size of batches', () => {
    const [large, small] = [generate([], input), generate(['--batch-tokens', '40'], input)];
    assert.equal(large.status, 0, large.stderr);
    const lines = parseLines(large.stdout);
    assert.deepEqual(lines.map(({ index, inputs }) => [index, inputs]), texts.map((text, index) => [index, text])); // prettier-ignore
    const numDifferent = new Set(lines.map(({ prediction, score }) => `${prediction} ${score}`)).size;
    assert.ok(numDifferent > texts.length / 2, `outputs depend on their inputs: ${numDifferent} different ones`);
    assert.equal(small.stdout, large.stdout);
  });

  test('sampling gives the same texts for the same seed and any size of batches, and others for another seed', () => {
    const sample = (...args: string[]): string => generate(['--sample', ...args], input).stdout;
    assert.equal(sample('--seed', '5'), sample('--seed', '5', '--batch-tokens', '64'));
    assert.notEqual(sample('--seed', '5'), sample('--seed', '6'));
  });

  test('reads a field of packed JSONL, and gives several outputs of a beam search', () => {
    const file = join(folder, 'questions.jsonl.gz');
    writeFileSync(file, gzipSync(texts.slice(0, 3).map((question) => `${JSON.stringify({ question })}\n`).join(''))); // prettier-ignore
    const beams = ['--num-beams', '3', '--num-return-sequences', '2'];
    const { stdout, status, stderr } = generate(['--input', file, '--field', 'question', ...beams]);
    assert.equal(status, 0, stderr);
    assert.deepEqual(parseLines(stdout).map(({ inputs, predictions }) => [inputs, predictions?.length]), texts.slice(0, 3).map((text) => [text, 2])); // prettier-ignore
  });

  test('counts inputs that are cut', () => {
    const { stdout, stderr } = generate(['--max-input-tokens', '5'], `short\n${'a long line of words '.repeat(9)}\n`);
    const [short, long] = parseLines(stdout);
    assert.equal(short!.cutTokens, undefined);
    assert.ok(long!.cutTokens! > 20);
    assert.match(stderr, /2 outputs; 1 inputs were cut to 5 tokens/u);
  });

  test('continues an output that was killed, with the bytes of an output that was not', async () => {
    const file = join(folder, 'many.txt');
    writeFileSync(file, Array.from({ length: 3_000 }, (_, at) => `${texts[at % texts.length]!} ${at}\n`).join(''));
    const whole = join(folder, 'whole.jsonl');
    assert.equal(generate(['--input', file, '--output', whole]).status, 0);

    const output = join(folder, 'killed.jsonl');
    const args = [EXMIX, 'generate', model, '--engine', 'wasm', '--max-new-tokens', '8', '--input', file];
    const child = spawn(process.execPath, [...args, '--output', output], { stdio: ['ignore', 'ignore', 'pipe'] });
    const ended = once(child, 'exit');
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const written = new Promise<void>((resolve) => {
      const watcher = watch(folder, (_, name) => {
        if (name !== 'killed.jsonl' || statSync(output).size === 0) return;
        watcher.close();
        resolve();
      });
    });
    await Promise.race([written, ended.then(() => assert.fail(`it ended before it wrote: ${stderr}`))]);
    child.kill('SIGKILL');
    await ended;
    const { size } = statSync(output);
    assert.ok(size > 0 && size < statSync(whole).size);
    truncateSync(output, size - 7); // and the last line is torn
    const again = generate(['--input', file, '--output', output]);
    assert.equal(again.status, 0, again.stderr);
    assert.match(again.stderr, /outputs, \d+ were there/u);
    assert.deepEqual(readFileSync(output), readFileSync(whole));

    const beams = generate(['--input', file, '--output', output, '--num-beams', '2']);
    assert.deepEqual([beams.status, /was made with other settings/u.test(beams.stderr)], [2, true]);
    const other = generate(['--output', output], 'another text\n');
    assert.deepEqual([other.status, /the output is of other inputs: its line 1/u.test(other.stderr)], [2, true]);
    assert.deepEqual(readFileSync(output), readFileSync(whole), 'nothing was lost');
    writeFileSync(output, 'no line of exmix\n');
    const foreign = generate(['--input', file, '--output', output]);
    assert.deepEqual([foreign.status, /expected JSON as exmix wrote it/u.test(foreign.stderr)], [2, true]);
  });

  test('answers lines one by one in a conversation', () => {
    const { stdout, status } = generate(['--interactive'], `${texts[0]!}\n${texts[1]!}\n`);
    assert.equal(status, 0);
    const lines = parseLines(generate([], `${texts[0]!}\n${texts[1]!}\n`).stdout);
    assert.equal(stdout, lines.map(({ prediction, score }) => `${prediction}\t${score.toFixed(3)}\n`).join(''));
  });

  for (const [what, args, input, status, message] of [
    ['a flag without effect', ['--top-p', '0.9'], '', 2, /--top-p has no effect without --sample/u],
    ['beams and sampling', ['--sample', '--num-beams', '4'], '', 2, /draws one output, found 4 beams/u],
    ['a line that is no JSON', ['--format', 'jsonl'], '{"inputs":"a"}\nplain\n', 3, /line 2: expected a JSON object/u],
    ['a missing field', ['--format', 'jsonl'], '{"text":"a"}\n', 3, /line 1: expected text in field "inputs"/u],
    ['a wrong bound', ['--batch-tokens', '0'], '', 2, /--batch-tokens: expected a whole number above 0/u],
  ] as const)
    test(`${what} is refused with what to do`, () => {
      const ended = generate(args, input);
      assert.equal(ended.status, status, ended.stderr);
      assert.match(ended.stderr, message);
    });

  test('a folder without a tokenizer, and a vocabulary smaller than the tokenizer, are refused', () => {
    const bare = join(folder, 'bare');
    cpSync(model, bare, { recursive: true });
    rmSync(join(bare, 'spiece.model'));
    const missing = spawnSync(process.execPath, [EXMIX, 'generate', bare], { input: '', encoding: 'utf8' });
    assert.deepEqual([missing.status, /give the tokenizer by --tokenizer/u.test(missing.stderr)], [2, true]);
    const small = 'golden/t5-tiny-v1_1';
    const wrong = spawnSync(process.execPath, [EXMIX, 'generate', small, '--tokenizer', GOLDEN_MODEL_PATH], {
      input: '',
      encoding: 'utf8',
    });
    assert.deepEqual([wrong.status, /the model has 512 tokens, the tokenizer 4100/u.test(wrong.stderr)], [2, true]);
  });
});
