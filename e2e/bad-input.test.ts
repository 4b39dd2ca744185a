/** Mistakes of a user and damaged files end with a clear message and the right exit status, before any step is trained. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { before, describe, test } from 'node:test';
import { exmix, startExmix, temporaryFolder, TINY, type Ended } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const MIXTURE = fileURLToPath(new URL('../deploy/demo/mixture.yaml', import.meta.url));

/** Flips one bit in the middle of a file. */
function flipBit(file: string): void {
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1]! ^= 4;
  writeFileSync(file, bytes);
}

function expectRefusal({ code, stderr, stdout }: Ended, expected: number, ...patterns: RegExp[]): void {
  assert.equal(code, expected, stdout + stderr);
  for (const pattern of patterns) assert.match(stderr, pattern);
  assert.ok(!stdout.includes('step 1/'), 'no step was trained');
}

describe('bad input', () => {
  let trained = '';

  before(async () => {
    trained = join(folder, 'trained');
    const { code, stdout, stderr } = await exmix(
      ['train', '--config', TINY, '--run-dir', trained, '--workers', '1', '--steps', '4'],
      home,
    );
    assert.equal(code, 0, stdout + stderr);
  });

  for (const [what, args, patterns] of [
    ['an unknown command', ['trian'], [/train/u]],
    ['no command', [], [/expected a command/u]],
    ['an unknown flag', ['train', '--preset', 'demo', '--stepps', '3'], [/--stepps \(did you mean --steps\?\)/u]],
    ['an unknown preset', ['train', '--preset', 'dmeo'], [/NAME_UNKNOWN/u, /did you mean demo\?/u]],
    ['an unknown engine', ['train', '--config', TINY, '--engine', 'wsam'], [/NAME_UNKNOWN/u, /did you mean wasm/u]],
    [
      'an engine that is not installed',
      ['train', '--config', TINY, '--engine', 'native'],
      [/ENGINE_UNAVAILABLE/u, /exmix engine install/u],
    ],
    ['a missing GPU', ['train', '--config', TINY, '--device', 'gpu'], [/ENGINE_UNAVAILABLE/u, /--device gpu/u]],
    ['an unknown task', ['tasks', 'wn_defin'], [/NAME_UNKNOWN/u, /wn_define/u]],
    [
      'a YAML alias without an anchor in a setting',
      ['train', '--preset', 'demo', '--set', 'seed=*x'],
      [/CONFIG_INVALID: --set seed is not YAML:\n {2}line 1: no anchor &x/u],
    ],
    [
      'a device as config',
      ['train', '--config', '/dev/zero'],
      [/PATH_UNUSABLE.*expected a regular file, found a device/u],
    ],
    [
      'a coordinator URL with a login',
      ['worker', '--url', 'ws://user:sekret@127.0.0.1:1'],
      [/CONFIG_INVALID: --url: expected ws:\/\/host:port without login.*got "ws:\/\/127\.0\.0\.1:1"/u],
    ],
    [
      'a coordinator URL with a query',
      ['mixture', 'show', 'ws://127.0.0.1:1/?token=sekret'],
      [/CONFIG_INVALID: the run: expected ws:\/\/host:port without login/u],
    ],
    ['neither preset nor config', ['train'], [/expected --preset NAME/u]],
    [
      'no workers',
      ['train', '--config', TINY, '--workers', '0'],
      [/--workers: expected a whole number of at least 1, got 0/u],
    ],
    [
      'more workers than lanes',
      ['train', '--config', TINY, '--workers', '5'],
      [/cluster\.startWorkers: expected at most numLanes \(4\), got 5/u],
    ],
    [
      'several problems in the config',
      ['train', '--config', TINY, '--set', 'training.numLanes=3', '--set', 'model.dModle=4'],
      [/training\.numLanes: expected a power of two, got 3/u, /model\.dModle: no such setting, did you mean dModel/u],
    ],
    [
      'a missing config',
      ['train', '--config', '/nowhere.yaml'],
      [/PATH_UNUSABLE: cannot read the config \/nowhere\.yaml/u],
    ],
    [
      'ExMix without a tokenizer and without the sets that no hub offers',
      ['train', '--preset', 'ext5-base'],
      [/tokenizer: expected the path of a SentencePiece model.*--set mixture\.tokenizer=FILE/u, /bring cogs\.tsv/u],
    ],
    [
      'a run without a mixture',
      ['train', '--preset', 'demo', '--set', 'mixture={}'],
      [/mixture\.path: expected the path of a mixture\.yaml: --set mixture\.path=FILE/u],
    ],
    [
      'a rate of an unknown task',
      ['train', '--config', TINY, '--set', 'mixture.rates={wn_defin: 3}'],
      [/NAME_UNKNOWN/u, /wn_define/u],
    ],
    [
      'a folder that is not a run',
      ['train', '--resume', '/tmp'],
      [/PATH_UNUSABLE/u, /expected a run folder \(with config\.yaml\) or a checkpoint folder/u],
    ],
    ['a worker without a token', ['worker', '--url', 'ws://127.0.0.1:1'], [/\$EXMIX_TOKEN or --token-file/u]],
  ] as const) {
    test(`${what} ends with status 2 and names a remedy`, async () => {
      const ended = await exmix([...args], home);
      expectRefusal(ended, 2, ...patterns);
      assert.ok(!ended.stderr.includes('sekret'), ended.stderr);
    });
  }

  test('a folder with other files is not used as a run folder', async () => {
    const other = join(folder, 'other');
    mkdirSync(other);
    writeFileSync(join(other, 'thesis.tex'), '');
    expectRefusal(
      await exmix(['train', '--config', TINY, '--run-dir', other], home),
      2,
      /PATH_UNUSABLE/u,
      /thesis\.tex/u,
    );
  });

  test('a port in use is reported before a worker starts', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const run = join(folder, 'port');
    const ended = await exmix(
      ['train', '--config', TINY, '--run-dir', run, '--set', `cluster.listenPort=${port}`],
      home,
    );
    server.close();
    expectRefusal(ended, 2, /PORT_IN_USE/u, new RegExp(String(port), 'u'));
    assert.equal(existsSync(run), false, 'no run folder is left behind');
    assert.doesNotMatch(ended.stderr, /Resume with/u);
  });

  test('a second coordinator on a live run folder is rejected, and the message names the owner', async () => {
    const run = join(folder, 'locked');
    const first = startExmix(
      ['train', '--config', TINY, '--run-dir', run, '--workers', '1', '--steps', '100000'],
      home,
    );
    await first.printed(/step 1\//u);
    const second = await exmix(['train', '--resume', run, '--workers', '1'], home);
    first.child.kill('SIGTERM');
    assert.equal((await first.ended).code, 130);
    expectRefusal(second, 2, /RUN_LOCKED/u, new RegExp(`\\b${String(first.child.pid)}\\b`, 'u'));
  });

  test('a checkpoint with a flipped bit cannot be resumed, and verify names the file', async () => {
    const run = join(folder, 'damaged');
    cpSync(trained, run, { recursive: true });
    const checkpoint = join(run, 'checkpoints', 'step-4');
    flipBit(join(checkpoint, 'model.safetensors'));
    expectRefusal(
      await exmix(['checkpoint', 'verify', checkpoint], home),
      3,
      /CHECKPOINT_CORRUPT/u,
      /model\.safetensors/u,
      /expected .*[0-9a-f]{64}.*found .*[0-9a-f]{64}/su,
    );
    expectRefusal(
      await exmix(['train', '--resume', checkpoint, '--run-dir', join(folder, 'x1')], home),
      3,
      /CHECKPOINT_CORRUPT/u,
      /model\.safetensors/u,
    );
    assert.ok(!existsSync(join(folder, 'x1')), 'no run folder was made');
  });

  test('a configuration that differs from the checkpoint is rejected with the difference', async () => {
    const checkpoint = join(trained, 'checkpoints', 'step-4');
    const ended = await exmix(
      ['train', '--resume', checkpoint, '--set', 'model.dFf=128', '--run-dir', join(folder, 'x2')],
      home,
    );
    expectRefusal(ended, 2, /CHECKPOINT_MISMATCH/u, /model\.dFf: 64 → 128/u);
  });

  test('a token shard with a flipped bit is prepared again from its source before training', async () => {
    const prepared = join(home, 'prepared', readdirSync(join(home, 'prepared'))[0]!);
    const damaged = join(folder, 'prepared');
    cpSync(prepared, damaged, { recursive: true });
    const shard = join(damaged, 'wn_define', 'unit-00000', 'shard-00000.tokens');
    const whole = readFileSync(shard);
    flipBit(shard);
    const run = join(folder, 'reprepared');
    const ended = await exmix(
      [
        'train',
        '--config',
        TINY,
        '--run-dir',
        run,
        '--workers',
        '1',
        '--steps',
        '1',
        '--set',
        `mixture.prepared=${damaged}`,
      ],
      home,
    );
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    assert.match(ended.stdout, /prepared wn_define: \d+ examples/u);
    assert.deepEqual(readFileSync(shard), whole);
  });

  test('a source with too many malformed rows ends prepare with status 3, and the first ones are shown with file and line', async () => {
    const mixture = join(folder, 'bad-mixture');
    cpSync(dirname(MIXTURE), mixture, { recursive: true });
    const source = join(mixture, 'data', 'country_qa.jsonl');
    const lines = readFileSync(source, 'utf8').split('\n');
    for (let i = 0; i < 40; i++) lines[10 * i + 1] = '{"question": 3';
    writeFileSync(source, lines.join('\n'));
    const out = join(folder, 'bad-prepared');
    mkdirSync(out);
    const ended = await exmix(['prepare', '--mixture', join(mixture, 'mixture.yaml'), '--out', out], home);
    expectRefusal(ended, 3, /SOURCE_MALFORMED/u, /country_qa\.jsonl:2\b/u);
  });

  test('a worker with a wrong token fails with AUTH_FAILED, and without a coordinator with CONNECT_FAILED', async () => {
    const run = join(folder, 'auth');
    const coordinator = startExmix(['coordinator', '--config', TINY, '--run-dir', run], home);
    await coordinator.printed(/coordinator listens/u);
    const { url } = JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as { url: string };
    const tokenFile = join(folder, 'wrong-token');
    writeFileSync(tokenFile, 'a-wrong-token-of-some-length');
    const refused = await exmix(['worker', '--url', url, '--token-file', tokenFile], home);
    expectRefusal(refused, 4, /AUTH_FAILED/u);
    coordinator.child.kill('SIGTERM');
    assert.equal((await coordinator.ended).code, 130);
    expectRefusal(await exmix(['worker', '--url', url, '--token-file', tokenFile], home), 4, /CONNECT_FAILED/u);
  });
});
