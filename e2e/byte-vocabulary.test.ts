/** A run with the vocabulary of bytes, by real processes: from text to a folder that generates, without a tokenizer file. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { exmix, finalDigest, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const place = (name: string): string => join(folder, name);
const BYTES = ['--set', 'mixture.tokenizer=bytes', '--set', 'model.vocabSize=384', '--set', 'mixture.tasks=[wn_*, text_denoising]']; // prettier-ignore
const train = (name: string, ...more: string[]): string[] => [
  ...[
    'train',
    '--config',
    TINY,
    '--run-dir',
    place(name),
    '--steps',
    '3',
    '--set',
    'checkpoint.everySteps=100',
    ...more,
  ],
];

async function run(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await exmix(args, home);
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}

describe('the vocabulary of bytes', () => {
  test('trains the same bits for 1 and 2 workers; its checkpoint names it and is the start of another run', async () => {
    await run(train('one', '--workers', '1', ...BYTES));
    await run(train('two', '--workers', '2', ...BYTES));
    assert.equal(finalDigest(place('two')), finalDigest(place('one')));
    await run(['ledger', 'audit', place('two')]);
    const checkpoint = join(place('one'), 'checkpoints', 'step-3');
    const files = readdirSync(checkpoint);
    assert.ok(!files.includes('spiece.model') && !files.includes('tokenizer.json'), files.join());
    const tokenizer = JSON.parse(readFileSync(join(checkpoint, 'tokenizer_config.json'), 'utf8')) as object;
    assert.equal('tokenizer_class' in tokenizer && tokenizer.tokenizer_class, 'ByT5Tokenizer');
    await run(['checkpoint', 'verify', checkpoint]);
    await run(['checkpoint', 'export', checkpoint, '--out', place('exported')]);
    await run(train('again', '--workers', '1', '--init', place('exported'), ...BYTES));
  });

  test('generate and evaluate read and write bytes', async () => {
    writeFileSync(place('inputs.txt'), 'é\n');
    const generate = ['generate', place('exported'), '--input', place('inputs.txt'), '--output', place('out.jsonl')];
    await run([...generate, '--max-new-tokens', '4', '--engine', 'wasm']);
    const line = JSON.parse(readFileSync(place('out.jsonl'), 'utf8')) as { prediction: unknown };
    assert.equal(typeof line.prediction, 'string');
    const evaluate = ['evaluate', place('one'), '--tasks', 'wn_entails', '--max-examples', '4', '--workers', '1'];
    assert.match(await run([...evaluate, '--engine', 'wasm', '--loss-only']), /wn_entails/u);
  });

  test('a second vocabulary is refused with the reason', async () => {
    await run(train('pieces', '--workers', '1', '--set', 'mixture.tasks=[wn_*]', '--set', 'mixture.denoisingRatio=0'));
    const mixed = await exmix(
      train('refused', '--workers', '1', '--init', place('one'), '--set', 'model=from init'),
      home,
    );
    assert.equal(mixed.code, 2, mixed.stdout);
    assert.match(mixed.stderr, /CONFIG_INVALID: model\.vocabSize: expected at least the \d+ ids of the tokenizer/u);
    const other = ['--init', place('pieces'), '--set', 'model=from init', '--set', 'mixture.tokenizer=bytes'];
    const { code, stderr } = await exmix(train('refused', '--workers', '1', ...other), home);
    assert.equal(code, 3, stderr);
    assert.match(
      stderr,
      /MIXTURE_MISMATCH: init: .*spiece\.model has another tokenizer than the mixture, bytes: expected 259 ids/u,
    );
    assert.ok(!readdirSync(folder).includes('refused'));
  });
});
