/** What people read on a terminal is no part of a run: real commands whose output closes, fills, or was never open. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exmix, finalDigest, readLog, startExmix, temporaryFolder, TINY } from './exmix-process.ts';

const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
const STEPS = 6;
/** Only guards against hanging, ms. */
const TIMEOUT_MS = 480_000;
const skip = existsSync('/dev/full') ? false : 'needs /dev/full';
const TOKEN = 'a token of the test, 32 characters'.replaceAll(' ', '-');

const folder = temporaryFolder();
const home = join(folder, 'home');
const env = { ...process.env, EXMIX_HOME: home, EXMIX_TOKEN: TOKEN };
const train = (run: string, steps = STEPS): string[] => [
  ...['train', '--config', TINY, '--workers', '1', '--steps', String(steps), '--run-dir', run],
];

function start(t: TestContext, args: readonly string[], stdio: StdioOptions): ChildProcess {
  const child = spawn(process.execPath, [EXMIX, ...args], { env, stdio, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

/** Runs a command with standard output or error on a full disk. @returns its status, and its error if that is read */
async function runOntoFullDisk(t: TestContext, args: readonly string[], isErrorLost: boolean) {
  const full = openSync('/dev/full', 'w');
  const child = start(t, args, ['ignore', full, isErrorLost ? full : 'pipe']);
  closeSync(full);
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [status] = (await once(child, 'close')) as [number];
  return { status, stderr };
}

const lostConsole = (run: string) =>
  readLog(run)
    .filter(({ msg }) => msg === 'console lost')
    .map(({ level, stream, code }) => ({ level, stream, code }));

describe('a run without its console', () => {
  let undisturbed = '';

  before(async () => {
    const run = join(folder, 'undisturbed');
    const { code, stdout, stderr } = await exmix(train(run), home);
    assert.equal(code, 0, stdout + stderr);
    undisturbed = finalDigest(run);
  });

  test('trains to its end when the reader of its output goes away in the middle, and logs that once', async (t) => {
    const run = join(folder, 'pipe');
    const child = start(t, train(run), ['ignore', 'pipe', 'pipe']);
    let printed = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      if (printed.includes('generation formed')) for (const pipe of [child.stdout!, child.stderr!]) pipe.destroy();
    });
    const [status] = (await once(child, 'exit')) as [number];
    assert.equal(status, 0, printed);
    assert.equal(finalDigest(run), undisturbed);
    assert.deepEqual(lostConsole(run), [{ level: 'warn', stream: 'standard output', code: 'EPIPE' }]);
  });

  test('trains to its end with standard output and error on a full disk', { skip }, async (t) => {
    const run = join(folder, 'full');
    assert.equal((await runOntoFullDisk(t, train(run), true)).status, 0);
    assert.equal(finalDigest(run), undisturbed);
    assert.deepEqual(lostConsole(run), [{ level: 'warn', stream: 'standard output', code: 'ENOSPC' }]);
  });

  test('trains to its end with standard output and error closed from the start', async () => {
    const run = join(folder, 'closed');
    const shell = spawn('sh', ['-c', 'exec "$0" "$@" >&- 2>&-', process.execPath, EXMIX, ...train(run)], {
      env,
      stdio: 'ignore',
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const [status] = (await once(shell, 'exit')) as [number];
    assert.equal(status, 0);
    assert.equal(finalDigest(run), undisturbed);
  });

  const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;
  const skipMount = canMount ? false : 'needs the right to mount a small file system (unshare -m)';
  test('goes on when the logs of coordinator and workers cannot be written', { skip: skipMount }, async () => {
    const run = join(folder, 'logs');
    assert.equal((await exmix(train(run, 3), home)).code, 0);
    const disk = join(folder, 'small-disk');
    mkdirSync(disk);
    // The two logs lie on a disk of their own that is full.
    const mounts = [
      `mount -t tmpfs -o size=64k none ${disk}`,
      ...['coordinator.jsonl', 'workers/local-0.log'].flatMap((name, at) => [
        `touch ${disk}/${at}`,
        `mount --bind ${disk}/${at} ${join(run, name)}`,
      ]),
      `{ cat /dev/zero > ${disk}/rest 2> /dev/null; true; }`,
    ];
    const wrapper = ['unshare', '-m', 'sh', '-c', `${mounts.join(' && ')} && exec "$@"`, 'sh'];
    const resumed = await startExmix(train(run), home, { wrapper }).ended;
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    assert.match(resumed.stdout, /WARN log file not written .*code=ENOSPC/u);
    assert.ok(resumed.stdout.includes(undisturbed), 'the bits of the undisturbed run');
  });

  test('starts a worker whose log cannot be opened, and says that its output is not kept', async () => {
    const run = join(folder, 'unopened');
    assert.equal((await exmix(train(run, 3), home)).code, 0);
    const log = join(run, 'workers', 'local-0.log');
    rmSync(log);
    mkdirSync(log);
    const resumed = await exmix(train(run), home);
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    assert.equal(finalDigest(run), undisturbed);
    const lost = readLog(run).find(({ msg }) => msg === 'worker output not kept');
    assert.deepEqual([lost?.['workerId'], lost?.['file'], lost?.['code']], ['local-0', log, 'EISDIR']);
  });

  test('keeps its worker when the readers of coordinator and worker go away', async (t) => {
    const run = join(folder, 'two-commands');
    const options = ['--min-workers', '1', '--steps', String(STEPS), '--run-dir', run];
    const coordinator = start(t, ['coordinator', '--config', TINY, ...options], ['ignore', 'pipe', 'pipe']);
    let printed = '';
    const url = await new Promise<string>((resolve) =>
      coordinator.stdout!.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
        const found = /coordinator listens url=(\S+)/u.exec(printed)?.[1];
        if (found !== undefined) resolve(found);
      }),
    );
    const worker = start(t, ['worker', '--url', url, '--id', 'w'], ['ignore', 'pipe', 'pipe']);
    const ends = Promise.all([once(coordinator, 'exit'), once(worker, 'exit')]);
    for (const { stdout, stderr } of [coordinator, worker]) for (const pipe of [stdout, stderr]) pipe!.destroy();
    assert.deepEqual(
      (await ends).map(([status]) => status as number),
      [0, 0],
    );
    assert.equal(finalDigest(run), undisturbed);
  });
});

describe('a command whose product is its output', () => {
  test('ends quietly with its own status when its reader has gone', async (t) => {
    const child = start(t, ['tasks', '--json'], ['ignore', 'pipe', 'pipe']);
    child.stdout!.destroy();
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const [status] = (await once(child, 'close')) as [number];
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  });

  test('stops reading when the reader of its output has gone', async (t) => {
    const model = fileURLToPath(new URL('../deploy/demo/tokenizer/spiece.model', import.meta.url));
    const child = start(t, ['tokenizer', 'encode', '--model', model], ['pipe', 'pipe', 'inherit']);
    child.stdin!.on('error', () => undefined); // it ends before it has read everything
    const feed = (): void => {
      while (child.stdin!.writable && child.stdin!.write('"hello"\n'.repeat(1000)));
    };
    child.stdin!.on('drain', feed);
    feed();
    await once(child.stdout!, 'data');
    child.stdout!.destroy();
    const [status] = (await once(child, 'exit')) as [number];
    assert.equal(status, 0);
  });

  for (const args of [['tasks', '--json'], ['--help'], ['--version'], ['train', '--help']])
    test(`fails if the disk is full: exmix ${args.join(' ')}`, { skip }, async (t) => {
      const { status, stderr } = await runOntoFullDisk(t, args, false);
      assert.match(stderr, /^exmix: DISK_FULL: cannot write standard output: no free space \(ENOSPC\)/u);
      assert.equal(status, 4);
    });
});
