/** Trains the tiny model with the seven denoisers of UL2: same bits for any number of workers, each with its own loss; bad ones are refused. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { exmix, finalDigest, readLog, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const NAMES = ['r3', 'r8', 's', 'x3', 'x8', 'x64-sparse', 'x64'].map((name) => `text_denoising.${name}`);

function train(name: string, ...args: string[]) {
  return exmix(['train', '--config', TINY, '--run-dir', join(folder, name), ...args], home);
}

describe('a run with denoisers', () => {
  const ul2 = ['--set', 'mixture.denoising=ul2', '--set', 'mixture.denoisingRatio=4', '--set', 'seed=3'];

  test('trains the same bits with one worker, two workers, and resumed; each denoiser has its loss', async () => {
    for (const [name, workers, steps] of [
      ['one', '1', '6'],
      ['two', '2', '6'],
      ['halves', '2', '3'],
    ] as const) {
      // prettier-ignore
      const { code, stdout, stderr } = await train(name, '--workers', workers, '--steps', steps, ...ul2);
      assert.equal(code, 0, stdout + stderr);
    }
    const resumed = await exmix(['train', '--resume', join(folder, 'halves'), '--workers', '1', '--steps', '6'], home);
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    const digests = ['one', 'two', 'halves'].map((name) => finalDigest(join(folder, name)));
    assert.equal(new Set(digests).size, 1, digests.join());
    const losses = new Set(
      readLog(join(folder, 'one')).flatMap(({ msg, ...fields }) =>
        msg === 'step committed' ? Object.keys(fields['taskLoss'] as object) : [],
      ),
    );
    assert.deepEqual([...losses].filter((name) => name.startsWith('text_denoising')).sort(), [...NAMES].sort());
  });

  test('the ledger replays a step, and shows what the model saw', async () => {
    const replay = await exmix(['ledger', 'replay', join(folder, 'two'), '--step', '5'], home);
    assert.equal(replay.code, 0, replay.stdout + replay.stderr);
    const shown = await exmix(['ledger', 'show', join(folder, 'one'), '--step', '5', '--text'], home);
    assert.equal(shown.code, 0, shown.stdout + shown.stderr);
    assert.match(shown.stdout, /text_denoising\.(r3|r8|s|x)/u);
  });

  test('another list of denoisers is another run: a resume refuses it', async () => {
    const other = await exmix(
      [
        'train',
        '--resume',
        join(folder, 'one'),
        '--steps',
        '7',
        '--set',
        'mixture.denoising=[{kind: prefix-lm, name: s}]',
      ],
      home,
    );
    assert.equal(other.code, 2, other.stdout + other.stderr);
    assert.match(other.stderr, /CHECKPOINT_MISMATCH|MIXTURE_MISMATCH/u);
  });

  test('a mixture without denoising text, two equal prefixes, and a wrong denoiser are refused before anything is trained', async () => {
    const mixture = join(folder, 'mixture.yaml');
    writeFileSync(join(folder, 'rows.jsonl'), '{"a": "x", "b": "y"}\n');
    writeFileSync(
      mixture,
      `name: bare\ntokenizer: ${join(import.meta.dirname, '../deploy/demo/tokenizer/spiece.model')}\ntasks:\n` +
        `  - { name: t, family: f, metrics: [accuracy], source: { path: rows.jsonl, format: jsonl }, inputs: '{a}', targets: '{b}' }\n`,
    );
    const same =
      "mixture.denoising=[{kind: prefix-lm, name: a, prefix: '[A]'}, {kind: prefix-lm, name: b, prefix: '{A}'}]";
    for (const [settings, message] of [
      [['mixture.denoising=ul2', `mixture.path=${mixture}`, 'mixture.denoisingRatio=0'], /bare has no denoising text/u],
      [[same], /the prefixes "\[A\]" and "\{A\}" have the same ids/u],
      [['mixture.denoising=ul3'], /mixture\.denoising: /u],
      [['mixture.denoising=[{kind: prefix-lm, name: s}, {kind: prefix-lm, name: s}]'], /distinct names/u],
    ] as const) {
      const { code, stderr } = await train('refused', '--workers', '1', ...settings.flatMap((text) => ['--set', text]));
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
    }
  });
});
