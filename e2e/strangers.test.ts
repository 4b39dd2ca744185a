/** Checkpoints and run folders of strangers: they are data. Nothing that they name runs, and the user's own runs resume without a flag. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { before, describe, test } from 'node:test';
import { encodeManifest } from '../shared/checkpoint/manifest.ts';
import { exmix, finalDigest, temporaryFolder, TINY, type Ended } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const MARK = join(folder, 'stranger-ran');
const TOKENIZER = fileURLToPath(new URL('../deploy/demo/tokenizer/spiece.model', import.meta.url));

/** A mixture of one task in TypeScript, which leaves a mark when it runs. */
function writeMixture(place: string, mark: string): string {
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, 'mixture.yaml'), `name: typed\ntokenizer: ${TOKENIZER}\ntasks:\n  - module: ./task.ts\n`);
  const rows = Array.from({ length: 400 }, (_, i) => JSON.stringify({ word: `word ${i}` })).join('\n');
  writeFileSync(join(place, 'rows.jsonl'), `${rows}\n`);
  writeFileSync(
    join(place, 'task.ts'),
    `import { appendFileSync } from 'node:fs';
import { defineTask } from 'exmix';
appendFileSync(${JSON.stringify(mark)}, 'ran\\n');
export default defineTask(({ source }) => ({
  name: 'upper', family: 'mine', metrics: [], source: source({ path: 'rows.jsonl', format: 'jsonl' }),
  preprocessor: { identity: { version: 1 }, fields: ['word'],
    apply: ({ word }) => ({ ok: true, examples: [{ inputs: String(word), targets: String(word).toUpperCase() }] }) },
}));
`,
  );
  return join(place, 'mixture.yaml');
}

/** A copy of a checkpoint, whole for every check, whose config names another mixture. */
function forgeCheckpoint(source: string, parent: string, mixture: string): string {
  const forged = join(parent, basename(source));
  cpSync(source, forged, { recursive: true });
  const run = JSON.parse(readFileSync(join(forged, 'run.json'), 'utf8')) as {
    step: number;
    config: { mixture: { path: string } };
  };
  run.config.mixture.path = mixture;
  writeFileSync(join(forged, 'run.json'), JSON.stringify(run));
  const files = readdirSync(forged)
    .filter((file) => file !== 'manifest.json')
    .map((file) => {
      const bytes = readFileSync(join(forged, file));
      return { file, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
    });
  writeFileSync(join(forged, 'manifest.json'), encodeManifest({ step: run.step, files }));
  return forged;
}

function expectRefusal({ code, stderr, stdout }: Ended, module: string): void {
  assert.equal(code, 2, stdout + stderr);
  assert.match(stderr, /^exmix: MODULE_NOT_TRUSTED: /u);
  assert.ok(stderr.includes(module), stderr);
  assert.match(stderr, /--trust-modules/u);
  assert.ok(!existsSync(MARK), 'the module did not run');
}

describe('checkpoints and run folders of strangers', () => {
  const own = join(folder, 'own');
  const ownRun = join(own, 'run');
  let strangersRun = '';
  let strangersCheckpoint = '';
  let module = '';

  before(async () => {
    const mixture = writeMixture(own, join(folder, 'own-ran'));
    const given = ['--config', TINY, '--set', `mixture.path=${mixture}`, '--set', 'mixture.denoisingRatio=0'];
    const { code, stdout, stderr } = await exmix(
      ['train', ...given, '--workers', '1', '--steps', '4', '--run-dir', ownRun],
      home,
    );
    assert.equal(code, 0, stdout + stderr);

    const stranger = join(folder, 'stranger');
    const evil = writeMixture(join(stranger, 'mixture'), MARK);
    module = join(stranger, 'mixture', 'task.ts');
    strangersCheckpoint = forgeCheckpoint(join(ownRun, 'checkpoints', 'step-4'), join(stranger, 'checkpoint'), evil);
    strangersRun = join(stranger, 'run');
    cpSync(ownRun, strangersRun, { recursive: true });
    const config = readFileSync(join(strangersRun, 'config.yaml'), 'utf8');
    writeFileSync(join(strangersRun, 'config.yaml'), config.replace(mixture, evil));
  });

  test('a checkpoint is not resumed, and no run folder is made', async () => {
    const runDir = join(folder, 'refused');
    expectRefusal(await exmix(['train', '--resume', strangersCheckpoint, '--run-dir', runDir], home), module);
    expectRefusal(await exmix(['coordinator', '--resume', strangersCheckpoint, '--run-dir', runDir], home), module);
    assert.ok(!existsSync(runDir));
  });

  test('a run folder is not resumed, nor is its config taken for the user’s', async () => {
    expectRefusal(await exmix(['train', '--resume', strangersRun, '--steps', '6'], home), module);
    const config = join(strangersRun, 'config.yaml');
    expectRefusal(await exmix(['train', '--config', config, '--run-dir', join(folder, 'refused')], home), module);
  });

  test('a run folder is listed without running it, and its texts are refused', async () => {
    for (const args of [
      ['ledger', 'audit', strangersRun],
      ['ledger', 'show', strangersRun, '--step', '2'],
      ['checkpoint', 'list', strangersRun],
      ['checkpoint', 'verify', strangersCheckpoint],
      ['mixture', 'show', strangersRun],
    ]) {
      const { code, stdout, stderr } = await exmix(args, home);
      assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
      assert.ok(!existsSync(MARK));
    }
    expectRefusal(await exmix(['ledger', 'show', strangersRun, '--step', '2', '--text'], home), module);
  });

  test('the user’s own run resumes without a flag, and its checkpoint too', async () => {
    const resumed = await exmix(['train', '--resume', ownRun, '--steps', '6', '--workers', '1'], home);
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    const again = join(folder, 'again');
    const checkpoint = join(ownRun, 'checkpoints', 'step-4');
    const { code, stdout, stderr } = await exmix(
      ['train', '--resume', checkpoint, '--steps', '6', '--workers', '1', '--run-dir', again],
      home,
    );
    assert.equal(code, 0, stdout + stderr);
    assert.equal(finalDigest(again), finalDigest(ownRun));
    const shown = await exmix(['ledger', 'show', ownRun, '--step', '2', '--text'], home);
    assert.equal(shown.code, 0, shown.stdout + shown.stderr);
    assert.match(shown.stdout, /WORD \d/u);
  });

  test('the same run on another machine asks, and --trust-modules answers', async () => {
    const otherHome = join(folder, 'other-home');
    const refused = await exmix(['train', '--resume', ownRun, '--steps', '8'], otherHome);
    assert.equal(refused.code, 2, refused.stdout + refused.stderr);
    assert.match(refused.stderr, /MODULE_NOT_TRUSTED/u);
    const trusted = await exmix(
      ['train', '--resume', ownRun, '--steps', '8', '--workers', '1', '--trust-modules'],
      otherHome,
    );
    assert.equal(trusted.code, 0, trusted.stdout + trusted.stderr);
    const again = await exmix(['train', '--resume', ownRun, '--steps', '9', '--workers', '1'], otherHome);
    assert.equal(again.code, 0, `what was prepared here is known: ${again.stdout}${again.stderr}`);
  });

  const kinds: readonly (readonly [string, (path: string) => unknown])[] = [
    ['a FIFO', (path) => execFileSync('mkfifo', [path])],
    [
      'a link to /dev/zero',
      (path) => {
        symlinkSync('/dev/zero', path);
      },
    ],
    ['a folder', (path) => mkdirSync(path, { recursive: true })],
    [
      'a sparse file of a terabyte',
      (path) => {
        writeFileSync(path, '');
        truncateSync(path, 1e12);
      },
    ],
  ];
  for (const [what, make] of kinds)
    test(`${what} in place of a file of a checkpoint or run folder ends each command at once, with a code`, async () => {
      const cases: readonly (readonly [string, (run: string) => string[]])[] = [
        ['checkpoints/step-4/manifest.json', (run) => ['checkpoint', 'verify', join(run, 'checkpoints', 'step-4')]],
        ['checkpoints/step-4/run.json', (run) => ['checkpoint', 'verify', join(run, 'checkpoints', 'step-4')]],
        ['checkpoints/step-4/model.safetensors', (run) => ['checkpoint', 'verify', join(run, 'checkpoints', 'step-4')]],
        ['checkpoints/step-4/run.json', (run) => ['train', '--resume', join(run, 'checkpoints', 'step-4')]],
        ['config.yaml', (run) => ['train', '--config', join(run, 'config.yaml')]],
        ['config.yaml', (run) => ['train', '--resume', run]],
        ['journal', (run) => ['train', '--resume', run, '--steps', '20']],
        ['coordinator.jsonl', (run) => ['train', '--resume', run, '--steps', '20']],
        ['ledger/segment-000001.ledger', (run) => ['ledger', 'audit', run]],
      ];
      for (const [i, [file, args]] of cases.entries()) {
        const run = join(folder, `special-${kinds.findIndex(([name]) => name === what)}-${i}`);
        cpSync(ownRun, run, { recursive: true });
        rmSync(join(run, file));
        make(join(run, file));
        const isSparseLog = what.startsWith('a sparse') && file.endsWith('.jsonl'); // a log may be long
        if (isSparseLog) continue;
        const { code, stdout, stderr } = await exmix(args(run), home);
        assert.ok(code === 2 || code === 3, `${file}: ${String(code)} ${stdout}${stderr}`);
        assert.match(stderr, /^exmix: [A-Z_]+: /u);
        assert.doesNotMatch(stderr, /INTERNAL/u);
        rmSync(run, { recursive: true });
      }
    });
});
