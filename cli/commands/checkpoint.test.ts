import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, truncate, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { PARAMETERS, PLAN, randomTensors, writeFixtureCheckpoint } from '../../shared/checkpoint/checkpoint.fixture.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';

const repository = join(import.meta.dirname, '..', '..');
let root = '';
let run = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-cli-checkpoint-'));
  run = join(root, 'tiny-20261123-050548');
  for (const step of [5, 10, 15]) await writeFixtureCheckpoint(join(run, 'checkpoints'), step);
  await truncate(join(run, 'checkpoints', 'step-10', 'run.json'), 3);
});
after(() => rm(root, { recursive: true, force: true }));

/** Runs only this command under yargs; prints an error's code and message to stderr. */
const SCRIPT = `
  import yargs from 'yargs';
  import { checkpointCommand } from './cli/commands/checkpoint.ts';
  try {
    await yargs(process.argv.slice(1)).scriptName('exmix').command({ command: 'checkpoint', ...checkpointCommand }).strict().exitProcess(false)
      .fail((message, error) => { throw error ?? new Error(message); }).parseAsync();
  } catch (error) {
    process.stderr.write((error.code ?? 'USAGE') + ': ' + error.message);
    process.exitCode = 3;
  }`;

const exmix = (...args: string[]) => {
  const nodeArgs = ['--import', 'tsx', '--input-type=module', '-e', SCRIPT, '--', ...args];
  return spawnSync(process.execPath, nodeArgs, { cwd: repository, encoding: 'utf8' });
};

describe('exmix checkpoint', () => {
  test('ls prints a line for each checkpoint, with the damage of a damaged one', () => {
    const { stdout, status } = exmix('checkpoint', 'ls', run);
    assert.equal(status, 0);
    const lines = stdout.trimEnd().split('\n');
    assert.match(lines[0] ?? '', /^STEP +SIZE +AGE +DIGEST +STATE$/);
    const digest = parameterDigest(randomTensors(PARAMETERS, 5)).slice(0, 12);
    assert.match(lines[1] ?? '', new RegExp(`^ +5 +[\\d.]+ KiB +\\d+ (s|min|h|d) +${digest} +whole$`));
    assert.match(lines[2] ?? '', /^ +10 .*damaged: run\.json: expected \d+ B, found 3 B$/);
    assert.equal(lines.length, 4);
  });

  test('ls --json prints the same as JSON', () => {
    const { stdout } = exmix('checkpoint', 'ls', '--json', join(run, 'checkpoints'));
    const summaries = JSON.parse(stdout) as { step: number; isWhole: boolean; problems: string[] }[];
    assert.deepEqual(
      summaries.map(({ step, isWhole, problems }) => [step, isWhole, problems.length]),
      [
        [5, true, 0],
        [10, false, 1],
        [15, true, 0],
      ],
    );
  });

  test('show prints run.json and the files', () => {
    const { stdout } = exmix('checkpoint', 'show', join(run, 'checkpoints', 'step-15'));
    const shown = JSON.parse(stdout) as { run: { step: number }; files: { file: string }[] };
    assert.equal(shown.run.step, 15);
    assert.equal(shown.files.length, PLAN.length + 2);
  });

  test('show prints shape and digest of a T5 of Hugging Face', () => {
    const folder = join(repository, 'golden', 'load', 'tied-shared-only');
    const { stdout, stderr } = exmix('checkpoint', 'show', folder);
    const shown = JSON.parse(stdout) as { paramDigest: string; model: { tieEmbeddings: boolean } };
    assert.equal(shown.model.tieEmbeddings, true, stderr);
    assert.match(shown.paramDigest, /^[0-9a-f]{64}$/u);
  });

  test('verify passes on a whole checkpoint and fails with every problem of a damaged one', async () => {
    const whole = exmix('checkpoint', 'verify', join(run, 'checkpoints', 'step-15'));
    assert.deepEqual([whole.status, whole.stderr], [0, '']);
    assert.match(whole.stdout, /whole, \d+ files and the manifest, \d+ B\n$/);
    await unlink(join(run, 'checkpoints', 'step-10', 'config.json'));
    const damaged = exmix('checkpoint', 'verify', join(run, 'checkpoints', 'step-10'));
    assert.equal(damaged.status, 3);
    assert.match(damaged.stderr, /^CHECKPOINT_CORRUPT: /);
    assert.match(
      damaged.stderr,
      /\n +config\.json: expected \d+ B, found no such file\n +run\.json: expected \d+ B, found 3 B\n/,
    );
  });

  test('export writes a folder for Transformers, and refuses a size that is none and a folder that is not empty', () => {
    const [model, out] = [join(repository, 'golden', 'load', 'tied-shared-only'), join(root, 'exported')];
    const exported = exmix('checkpoint', 'export', model, '--out', out, '--dtype', 'bfloat16');
    assert.deepEqual([exported.status, exported.stderr], [0, `${model} has no tokenizer: ${out} has none either\n`]);
    assert.match(
      exported.stdout,
      /exported: .* in bfloat16, 3 files, .* of weights\nparameters [0-9a-f]{64} → [0-9a-f]{64}\n$/u,
    );
    assert.match(exmix('checkpoint', 'export', model, '--out', out).stderr, /^PATH_UNUSABLE: --out .*new or empty/u);
    const wrong = exmix('checkpoint', 'export', model, '--out', join(root, 'other'), '--max-shard-size', 'large');
    assert.match(wrong.stderr, /^CONFIG_INVALID: --max-shard-size: expected a size such as 5GB/u);
  });

  test('a missing path fails with PATH_UNUSABLE; --help shows examples', () => {
    assert.match(exmix('checkpoint', 'ls', join(root, 'nowhere')).stderr, /^PATH_UNUSABLE: .*ENOENT/);
    assert.match(exmix('checkpoint', '--help').stdout, /Examples:\n +exmix checkpoint ls /);
    assert.match(exmix('checkpoint').stderr, /expected ls, show or verify/);
  });
});
