import assert from 'node:assert/strict';
import { spawn, spawnSync, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { ESLint, Linter } from 'eslint';

const ROOT = join(import.meta.dirname, '..');
/** Only guards against hanging, ms. */
const TIMEOUT_MS = 240_000;
const MODULES = `
  import { connect } from 'node:net';
  import { flushStandardStreams, standardError, standardOutput } from './shared/standard-streams.ts';
  const failures = [];
  standardOutput.onFailure((failure) => failures.push(failure));`;

/** Arguments of node that run a script with the module under test. */
const script = (text: string): string[] => ['--import', 'tsx', '--input-type=module', '-e', MODULES + text];

function start(text: string, stdio: SpawnOptions['stdio'], args: readonly string[] = []) {
  return spawn(process.execPath, [...script(text), ...args], {
    cwd: ROOT,
    stdio,
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
}

/** @returns status and standard error of a script whose standard output is the given file */
function runOnto(file: string, text: string): { status: number | null; stderr: string } {
  const output = openSync(file, 'a');
  try {
    const options = { cwd: ROOT, encoding: 'utf8', timeout: TIMEOUT_MS, killSignal: 'SIGKILL' } as const;
    return spawnSync(process.execPath, script(text), { ...options, stdio: ['ignore', output, 'pipe'] });
  } finally {
    closeSync(output);
  }
}

/** A server at which a script tells that it has come to its end; the script connects to the port in its first argument. */
async function listen(t: TestContext): Promise<{ port: number; connected: Promise<Socket> }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const connected = once(server, 'connection').then(([socket]) => socket as Socket);
  return { port: (server.address() as AddressInfo).port, connected };
}

const hasFullDevice = existsSync('/dev/full');
const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;
const hasTerminal = spawnSync('script', ['-qec', 'true', '/dev/null']).status === 0;

describe('a console', () => {
  test(
    'on a full disk neither throws nor ends the process, and tells its listener once',
    { skip: !hasFullDevice },
    () => {
      const { status, stderr } = runOnto(
        '/dev/full',
        `for (let i = 0; i < 3; i++) standardOutput.write('line\\n');
       standardError.write(JSON.stringify(failures));
       await flushStandardStreams();`,
      );
      assert.equal(status, 0, stderr);
      assert.deepEqual(JSON.parse(stderr), [{ stream: 'standard output', code: 'ENOSPC' }]);
    },
  );

  test('is written again once there is room, and says how much is missing', { skip: !canMount }, async () => {
    const disk = await mkdtemp(join(tmpdir(), 'exmix-streams-'));
    const fill = `
      import { rmSync, writeFileSync } from 'node:fs';
      const disk = process.argv[1];
      standardOutput.write('before\\n');
      let ballast = 0;
      try { for (;; ballast++) writeFileSync(disk + '/ballast-' + ballast, 'x'.repeat(4096)); } catch {}
      standardOutput.write('y'.repeat(5000));
      standardOutput.write('z'.repeat(100));
      for (let i = 0; i <= ballast; i++) rmSync(disk + '/ballast-' + i, { force: true });
      standardOutput.write('after\\n');`;
    try {
      const shell =
        'mount -t tmpfs -o size=64k none "$1" && disk=$1 node=$2 && shift 2 && "$node" "$@" "$disk" > "$disk/out" && cat "$disk/out"';
      const args = ['-m', 'sh', '-c', shell, 'sh', disk, process.execPath, ...script(fill)];
      const { stdout, stderr } = spawnSync('unshare', args, { cwd: ROOT, encoding: 'utf8', timeout: TIMEOUT_MS });
      // The disk took the rest of the block that begins with the first line.
      const taken = 4096 - 'before\n'.length;
      const missing = 5000 - taken + 100;
      const notice = `\nexmix: ${missing} B of output are missing here\n`;
      assert.equal(stdout, `before\n${'y'.repeat(taken)}${notice}after\n`, stderr);
    } finally {
      await rm(disk, { recursive: true, force: true });
    }
  });

  test('whose reader goes away ends no process, whoever writes', async () => {
    const child = start(
      `process.stdin.resume().once('end', async () => {
         for (let i = 0; i < 3; i++) {
           standardOutput.write('line\\n');
           console.log('a library');
           await new Promise((resolve) => setImmediate(resolve));
         }
         const isRead = await standardOutput.print('result\\n');
         await flushStandardStreams();
         standardError.write(JSON.stringify({ isRead, failures }));
       });`,
      ['pipe', 'pipe', 'pipe'],
    );
    child.stdout!.destroy();
    child.stdin!.end();
    let told = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (told += text));
    const [status] = (await once(child, 'close')) as [number];
    assert.equal(status, 0, told);
    assert.deepEqual(JSON.parse(told), { isRead: false, failures: [{ stream: 'standard output', code: 'EPIPE' }] });
  });

  test('whose reader takes nothing holds a bounded amount of text and does not hold up the process', async (t) => {
    const { port, connected } = await listen(t);
    const child = start(
      `for (let i = 0; i < 64; i++) standardOutput.write('x'.repeat(65536));
       const waiting = process.stdout.writableLength;
       const isFlushed = await flushStandardStreams();
       connect(Number(process.argv[1])).end(JSON.stringify({ waiting, isFlushed })).once('close', () => process.exit());`,
      ['ignore', 'pipe', 'inherit'],
      [String(port)],
    );
    t.after(() => child.kill('SIGKILL'));
    const socket = await connected;
    const [told] = (await once(socket.setEncoding('utf8'), 'data')) as [string];
    const { waiting, isFlushed } = JSON.parse(told) as { waiting: number; isFlushed: boolean };
    assert.ok(waiting > 0 && waiting <= 1024 * 1024 + 65536, `${waiting} B wait`);
    assert.equal(isFlushed, false);
  });

  test('on a terminal that is stopped does not hold up the process', { skip: !hasTerminal }, async (t) => {
    const { port, connected } = await listen(t);
    const run = `for (let i = 0; i < 16; i++) standardOutput.write('x'.repeat(65536)); connect(${port});`;
    const command = [process.execPath, ...script(run)].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
    // Nothing reads the output of \`script\`, so nothing takes the text off the terminal.
    const terminal = spawn('script', ['-qefc', command, '/dev/null'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => terminal.kill('SIGKILL'));
    (await connected).destroy();
  });
});

describe('a result', () => {
  test('that a full disk does not take is an error', { skip: !hasFullDevice }, () => {
    const { stderr } = runOnto(
      '/dev/full',
      `await standardOutput.print('result\\n').catch(({ code, message }) => standardError.write(code + ': ' + message));`,
    );
    assert.match(stderr, /^DISK_FULL: cannot write standard output: no free space \(ENOSPC\)/u);
  });

  test('is written whole to a slow reader', async () => {
    const child = start(`await standardOutput.print('x'.repeat(1_000_000) + 'end');`, ['ignore', 'pipe', 'inherit']);
    let length = 0;
    for await (const chunk of child.stdout!) length += (chunk as Buffer).length;
    assert.equal(length, 1_000_003);
  });
});

describe('lint', () => {
  for (const code of [
    `process.stdout.write('a');`,
    `process['stderr'].write('a');`,
    `const { stdout } = process;`,
    `import { stdout } from 'node:process';`,
    `import { writeSync } from 'node:fs'; writeSync(1, 'a');`,
    `import fs from 'node:fs'; fs.writeSync(2, 'a');`,
    `console.log('a');`,
  ])
    test(`refuses ${code}`, async () => {
      const { rules } = (await new ESLint({ cwd: ROOT }).calculateConfigForFile('cli/main.ts')) as Linter.Config;
      const only = Object.fromEntries(
        ['no-console', 'no-restricted-syntax'].map((name) => [name, rules?.[name] ?? 'off'] as const),
      );
      const problems = new Linter().verify(code, [{ rules: only }]);
      assert.equal(problems.length, 1);
    });
});
