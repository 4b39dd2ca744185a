/** `exmix evaluate` with real worker processes, on a small model with random weights: the same bytes for any number of workers, killed or not. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parsePredictions, parseResults } from '../evaluation/results.ts';
import { GOLDEN_MODEL_PATH, readGoldenLines } from '../mixture/tokenizer/golden-lines.fixture.ts';
import { modelConfigSchema, toHuggingFace } from '../shared/model-config.ts';
import { RandomStream } from '../shared/random.ts';
import { float32Tensor, writeSafetensors } from '../shared/safetensors.ts';
import { numElements, parameterSpecs } from '../worker/model/parameters.ts';

const EXMIX = new URL('../cli/exmix.mjs', import.meta.url).pathname;
/** Only guards against hanging, ms. */
const TIMEOUT_MS = 600_000;
const NUM_EXAMPLES = 60;

const folder = mkdtempSync(join(tmpdir(), 'exmix-evaluate-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const model = join(folder, 'model');
const mixture = join(folder, 'mixture.yaml');
const env = { ...process.env, EXMIX_HOME: join(folder, 'home') };

const texts = readGoldenLines()
  .map(({ text }) => text)
  .filter((text) => text.length > 20 && text.length < 300 && !/[\n\r]/u.test(text));

const MIXTURE = `
name: small
tokenizer: model/spiece.model
tasks:
  - name: copy
    family: copying
    metrics: [rouge, bleu]
    postprocess: text
    source: { path: train.jsonl, format: jsonl }
    validation: { path: validation.jsonl, format: jsonl }
    inputs: 'copy: {text}'
    targets: '{text}'
  - name: parity
    family: classification
    metrics: [accuracy]
    labels: [even, odd]
    source: { path: train.jsonl, format: jsonl }
    validation: { path: validation.jsonl, format: jsonl }
    inputs: 'parity: {text}'
    targets: '{parity}'
`;

/** Every output has 24 tokens: a batch takes some time. */
const FLAGS = ['--engine', 'wasm', '--batch-tokens', '200', '--max-new-tokens', '24', '--min-new-tokens', '24'];

function argumentsOf(out: string, args: readonly string[]): string[] {
  return [EXMIX, 'evaluate', model, '--mixture', mixture, '--out', join(folder, out), ...FLAGS, ...args];
}

function evaluate(out: string, ...args: string[]) {
  return spawnSync(process.execPath, argumentsOf(out, args), { env, encoding: 'utf8', timeout: TIMEOUT_MS });
}

/** results.json and predictions, by name. */
function outcomeOf(out: string): Record<string, string> {
  const files = ['results.json', ...readdirSync(join(folder, out, 'predictions')).sort().map((name) => `predictions/${name}`)]; // prettier-ignore
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(folder, out, name), 'utf8')]));
}

/** Results of batches that are on disk. */
function countResults(out: string): number {
  const batches = join(folder, out, 'batches');
  const lines = readdirSync(batches).map((name) => readFileSync(join(batches, name), 'utf8').split('\n').length - 2);
  return lines.reduce((sum, count) => sum + Math.max(0, count), 0);
}

/** Starts an evaluation, and resolves when so many results are on disk. */
async function startUntil(
  out: string,
  numResults: number,
  ...args: string[]
): Promise<{ child: ChildProcess; stderr: () => string; ended: Promise<unknown[]> }> {
  const batches = join(folder, out, 'batches');
  mkdirSync(batches, { recursive: true });
  const reached = new Promise<void>((resolve) => {
    const watcher = watch(batches, () => {
      if (countResults(out) < numResults) return;
      watcher.close();
      resolve();
    });
  });
  const child = spawn(process.execPath, argumentsOf(out, args), { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = once(child, 'exit');
  await Promise.race([
    reached,
    ended.then(() => assert.fail(`the command ended before ${numResults} results: ${stderr}`)),
  ]);
  return { child, stderr: () => stderr, ended };
}

before(async () => {
  mkdirSync(model);
  const config = modelConfigSchema.parse({
    ...{ vocabSize: 4_100, dModel: 16, dKv: 8, dFf: 24, numHeads: 2, numLayers: 2, numDecoderLayers: 2 },
  });
  const random = new RandomStream([11]);
  const tensors = parameterSpecs(config).map(({ name, shape, initializer }) => {
    const scale = initializer.kind === 'normal' ? 2 * initializer.standardDeviation : 0;
    const value = (): number => (initializer.kind === 'ones' ? 1 : scale * random.nextNormal());
    return float32Tensor(name, shape, Float32Array.from({ length: numElements(shape) }, value));
  });
  await writeSafetensors(join(model, 'model.safetensors'), tensors);
  writeFileSync(join(model, 'config.json'), JSON.stringify(toHuggingFace(config)));
  cpSync(GOLDEN_MODEL_PATH, join(model, 'spiece.model'));
  writeFileSync(mixture, MIXTURE);
  const rows = texts.map((text) => `${JSON.stringify({ text, parity: text.length % 2 === 0 ? 'even' : 'odd' })}\n`);
  writeFileSync(join(folder, 'validation.jsonl'), rows.slice(0, NUM_EXAMPLES).join(''));
  writeFileSync(join(folder, 'train.jsonl'), rows.slice(NUM_EXAMPLES, 2 * NUM_EXAMPLES).join(''));
  const first = evaluate('one');
  assert.equal(first.status, 0, first.stderr);
  assert.match(first.stdout, /^parity +accuracy +0\.00 +0\.00 +60 /mu);
});

describe('exmix evaluate', { timeout: TIMEOUT_MS }, () => {
  test('scores every example of each set, and says how it was done', () => {
    const files = outcomeOf('one');
    assert.deepEqual(Object.keys(files), ['results.json', 'predictions/copy.jsonl', 'predictions/parity.jsonl']);
    const { sets, decoding, engine, step } = parseResults(files['results.json']!, 'results.json');
    assert.deepEqual(sets.map(({ task, numExamples, numUnended }) => [task, numExamples, numUnended]), [['copy', NUM_EXAMPLES, NUM_EXAMPLES], ['parity', NUM_EXAMPLES, NUM_EXAMPLES]]); // prettier-ignore
    assert.equal((decoding as { maxNewTokens: number }).maxNewTokens, 24);
    assert.match(engine, /tfjs/u);
    assert.equal(step, null);
    const lines = parsePredictions(files['predictions/copy.jsonl']!, 'copy.jsonl');
    assert.deepEqual(lines.map(({ references }) => references), texts.slice(0, NUM_EXAMPLES).map((text) => [text.replace(/\s+/gu, ' ').trim()])); // prettier-ignore
    const numDifferent = new Set(lines.map(({ prediction, loss }) => `${prediction} ${loss}`)).size;
    assert.ok(numDifferent > NUM_EXAMPLES / 2, `predictions depend on their inputs: ${numDifferent} different ones`);
  });

  for (const workers of ['2', '3'])
    test(`${workers} workers give the bytes of one`, () => {
      const { status, stderr } = evaluate(`with-${workers}`, '--workers', workers);
      assert.equal(status, 0, stderr);
      assert.deepEqual(outcomeOf(`with-${workers}`), outcomeOf('one'));
    });

  test('a worker that is killed in the middle costs its batches only', async () => {
    const { child, stderr, ended } = await startUntil('killed-worker', 3, '--workers', '2');
    const file = join(folder, 'killed-worker', 'workers', 'local-0.json');
    process.kill((JSON.parse(readFileSync(file, 'utf8')) as { process: { pid: number } }).process.pid, 'SIGKILL');
    await ended;
    assert.equal(child.exitCode, 0, stderr());
    const log = readFileSync(join(folder, 'killed-worker', 'evaluation.jsonl'), 'utf8');
    assert.match(log, /"exitCode":null,"signal":"SIGKILL","msg":"worker exited"/u);
    assert.deepEqual(outcomeOf('killed-worker'), outcomeOf('one'));
  });

  test('an evaluation that is killed whole goes on with the same command, and a finished one is not done again', async () => {
    const { child, ended } = await startUntil('killed', 3, '--workers', '2');
    child.kill('SIGKILL');
    await ended;
    const numBefore = countResults('killed');
    const again = evaluate('killed', '--workers', '2');
    assert.equal(again.status, 0, again.stderr);
    const [, numFound, numAll] = /(\d+) of (\d+) batches are in/u.exec(again.stderr) ?? [];
    assert.ok(Number(numFound) >= 3 && Number(numFound) <= numBefore && numBefore < Number(numAll), again.stderr);
    assert.deepEqual(outcomeOf('killed'), outcomeOf('one'));
    const third = evaluate('killed');
    assert.equal(third.status, 0, third.stderr);
    assert.match(third.stderr, /nothing is computed again/u);
    assert.deepEqual(outcomeOf('killed'), outcomeOf('one'));
  });

  test('a stopped evaluation says what is done, and ends with 130', async () => {
    const { child, stderr, ended } = await startUntil('stopped', 2);
    child.kill('SIGINT');
    await ended;
    assert.equal(child.exitCode, 130, stderr());
    assert.match(stderr(), /\d+ of \d+ batches are in .*stopped; the same command goes on/u);
  });

  test('two results are compared example by example, and results of other examples are refused', () => {
    const beams = evaluate('beams', '--num-beams', '3', '--tasks', 'copy');
    assert.equal(beams.status, 0, beams.stderr);
    const compare = (...args: string[]) => spawnSync(process.execPath, [EXMIX, 'evaluate', 'compare', ...args], { cwd: folder, encoding: 'utf8' }); // prettier-ignore
    const { stdout, stderr, status } = compare('one', 'beams');
    assert.equal(status, 0, stderr);
    assert.match(stderr, /parity\/validation is only in one: left out/u);
    assert.match(stdout, /^copy\/validation +loss .* \+?0\.00 +0\.00 to 0\.00 +not told apart$/mu);
    assert.match(stdout, /copy\/validation: \d+ of 60 predictions changed/u);
    const part = evaluate('part', '--max-examples', '20', '--loss-only');
    assert.equal(part.status, 0, part.stderr);
    assert.deepEqual(parseResults(outcomeOf('part')['results.json']!, '').sets.map(({ numExamples, evaluation }) => [numExamples, evaluation]), [[20, null], [20, null]]); // prettier-ignore
    const refused = compare('one', 'part');
    assert.deepEqual([refused.status, /expected two results with one number of examples/u.test(refused.stderr)], [3, true], refused.stderr); // prettier-ignore
    assert.equal(compare('one', 'home').status, 2);
  });

  test('a set that was compared with train has its scores without the leaked examples beside', () => {
    const leaky = join(folder, 'leaky.yaml');
    writeFileSync(leaky, MIXTURE.replace('name: small', 'name: leaky').replaceAll('train.jsonl', 'leaky.jsonl'));
    const rows = (file: string): string[] => readFileSync(join(folder, file), 'utf8').split('\n').slice(0, -1);
    writeFileSync(join(folder, 'leaky.jsonl'), [...rows('validation.jsonl').slice(0, 3), ...rows('train.jsonl')].map((row) => `${row}\n`).join('')); // prettier-ignore
    const args = ['evaluate', model, '--mixture', leaky, '--out', join(folder, 'leaky'), ...FLAGS];
    const run = (command: readonly string[]) => spawnSync(process.execPath, [EXMIX, ...command], { env, encoding: 'utf8', timeout: TIMEOUT_MS }); // prettier-ignore
    const before = run(args);
    assert.equal(before.status, 0, before.stderr);
    assert.equal(parseResults(outcomeOf('leaky')['results.json']!, '').sets[0]!.withoutLeaked, undefined);
    assert.doesNotMatch(before.stdout, /leaked/u);

    // The mixture that the command above prepared: tokenized by the model's tokenizer, with the same lengths.
    const overlap = run(['tasks', 'overlap', '--mixture', leaky, '--tokenizer', join(model, 'spiece.model'), '--json']);
    assert.equal(overlap.status, 0, overlap.stderr);
    const found = JSON.parse(overlap.stdout) as { task: string; leaked: number[] }[];
    const { leaked } = found.find(({ task }) => task === 'parity')!;
    assert.deepEqual(leaked.slice(0, 3), [0, 1, 2]);
    const after = run(args);
    assert.equal(after.status, 0, after.stderr);
    assert.match(after.stderr, /nothing is computed again/u);
    const files = outcomeOf('leaky');
    const set = parseResults(files['results.json']!, '').sets.find(({ task }) => task === 'parity');
    const lines = parsePredictions(files['predictions/parity.jsonl']!, '');
    const kept = lines.filter((line) => line.leaked !== true);
    assert.deepEqual(lines.flatMap(({ id, leaked: isLeaked }) => (isLeaked === true ? [id] : [])), leaked); // prettier-ignore
    const without = set!.withoutLeaked!;
    assert.equal(without.numLeaked, leaked.length);
    const losses = kept.reduce((sum, { loss }) => sum + loss, 0) / kept.reduce((sum, { numTokens }) => sum + numTokens, 0); // prettier-ignore
    const figure = without.metrics['teacher_forcing']!.figures['loss']!;
    assert.ok(Math.abs(figure.score! - losses) < 1e-12 * losses && figure.standardError! > 0);
    assert.notEqual(figure.score, set!.metrics['teacher_forcing']!.figures['loss']!.score);
    assert.match(after.stdout, new RegExp(`^parity +loss .* +${leaked.length} +${losses.toFixed(2)}$`, 'mu'));
  });

  for (const [what, args, message] of [
    ['a model without a mixture', [model], /give --mixture demo, exmix or FILE/u],
    [
      'an unknown task',
      [model, '--mixture', mixture, '--tasks', 'parityy'],
      /no task of the mixture is called "parityy"/u,
    ],
    [
      'a split without sets',
      [model, '--mixture', mixture, '--split', 'test'],
      /expected test sets of its tasks, found none/u,
    ],
    ['an unknown split', [model, '--mixture', mixture, '--split', 'dev'], /--split/u],
    [
      'a folder without a tokenizer',
      [join('golden', 't5-tiny-v1_1'), '--mixture', mixture],
      /give the tokenizer by --tokenizer/u,
    ],
    [
      'a tokenizer that is larger than the model',
      [join('golden', 't5-tiny-v1_1'), '--mixture', mixture, '--tokenizer', GOLDEN_MODEL_PATH],
      /the model has 512 tokens, the tokenizer 4100/u,
    ],
    ['a wrong number of workers', [model, '--workers', '-1'], /--workers: expected a whole number from 0/u],
  ] as const)
    test(`${what} is refused with what to do`, () => {
      const { status, stderr } = spawnSync(process.execPath, [EXMIX, 'evaluate', ...args], { env, encoding: 'utf8' });
      assert.equal(status, 2, stderr);
      assert.match(stderr, message);
    });
});
