import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writeSmallMixture } from '../../mixture/prepare/small-mixture.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-cli-'));
after(() => rmSync(root, { recursive: true }));
const { path } = writeSmallMixture(join(root, 'sources'));
const exmixFile = fileURLToPath(new URL('../exmix.mjs', import.meta.url));

function exmix(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, EXMIX_HOME: join(root, 'home') };
  return spawnSync(process.execPath, [exmixFile, ...args], { encoding: 'utf8', env });
}

const lengths = ['--mixture', path, '--inputs-length', '32', '--targets-length', '16'];

describe('exmix prepare, tasks and mixture', () => {
  test('before preparing, tasks lists no counts and mixture names the command to run', () => {
    const tasks = exmix('tasks', ...lengths);
    assert.equal(tasks.status, 0, tasks.stderr);
    assert.match(tasks.stdout, /^zipped +A +jsonl +-$/mu);
    assert.match(tasks.stdout, /5 tasks, not prepared yet: exmix prepare/u);
    const mixture = exmix('mixture', ...lengths);
    assert.equal(mixture.status, 2);
    assert.match(mixture.stderr, /PATH_UNUSABLE: .*run "exmix prepare"/u);
  });

  test('after preparing, all three commands print the same numbers', () => {
    const prepare = exmix('prepare', ...lengths);
    assert.equal(prepare.status, 0, prepare.stderr);
    assert.match(prepare.stdout, /^ {2}prepared zipped: 120 examples, /mu);
    const folder = /^prepared (.+)$/mu.exec(prepare.stdout)?.[1] ?? '';
    assert.ok(folder.startsWith(join(root, 'home', 'prepared', 'small-')) && existsSync(join(folder, 'mixture.json')));
    assert.match(exmix('prepare', ...lengths).stdout, /^ {2}reused zipped/mu);

    assert.match(exmix('tasks', ...lengths).stdout, /^zipped +A +jsonl +120$/mu);
    const { hash, tasks } = JSON.parse(
      exmix('mixture', ...lengths, '--json', '--denoising-ratio', '1', '--draws', '600').stdout,
    ) as {
      hash: string;
      tasks: { name: string; numExamples: number; share: number; expectedPasses: number }[];
    };
    assert.equal(hash, /^hash (.+)$/mu.exec(prepare.stdout)?.[1]);
    const zipped = tasks.find(({ name }) => name === 'zipped')!;
    // 120 of the 300 supervised examples, which are half of the draws.
    assert.ok(Math.abs(zipped.share - 0.2) < 1e-12 && Math.abs(zipped.expectedPasses - 1) < 1e-12);
    assert.match(exmix('mixture', ...lengths).stdout, /^zipped +supervised +120 /mu);
  });

  test('tasks show NAME shows a task of ExMix with its made-up example', () => {
    const shown = exmix('tasks', 'show', 'glue_rte');
    assert.equal(shown.status, 0, shown.stderr);
    assert.match(shown.stdout, /glue_rte/u);
  });

  test('tasks NAME shows rendered examples; an unknown name gets the nearest ones', () => {
    const shown = exmix('tasks', 'table', ...lengths, '--samples', '1');
    assert.match(shown.stdout, /inputs: {2}is it .*, "so"\?\n {2}targets: no\n$/u);
    const unknown = exmix('tasks', 'tabel', ...lengths);
    assert.equal(unknown.status, 2);
    assert.match(unknown.stderr, /NAME_UNKNOWN: mixture small has no task "tabel"; did you mean tabbed, table/u);
  });

  test('malformed rows above the threshold fail with the status for data; the option raises the threshold', () => {
    const folder = join(root, 'malformed');
    const mixture = writeSmallMixture(folder);
    writeFileSync(join(folder, 'plain.jsonl'), '{"q":"a","a":"b"}\n{"q":"a"}\n');
    const options = [
      '--mixture',
      mixture.path,
      '--out',
      join(folder, 'out'),
      '--inputs-length',
      '32',
      '--targets-length',
      '16',
    ];
    const refused = exmix('prepare', ...options);
    assert.equal(refused.status, 3);
    assert.match(
      refused.stderr,
      /SOURCE_MALFORMED: task plain: 1 of 2 rows are malformed[^]*plain\.jsonl:2: targets: field "a" is missing/u,
    );
    const accepted = exmix('prepare', ...options, '--bad-row-threshold', '0.5');
    assert.equal(accepted.status, 0, accepted.stderr);
    assert.match(
      accepted.stdout,
      /plain: 1 examples, \d+ tokens, 1 malformed rows left out, the first:\n {4}plain\.jsonl:2:/u,
    );
  });
});
