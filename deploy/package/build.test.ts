import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);
const REPOSITORY = join(import.meta.dirname, '../..');
/** Real files of a checkout that is small otherwise: a build of it takes a moment. */
const REAL = [
  'package.json',
  'package-lock.json',
  'cli/exmix.mjs',
  'deploy/package/build.mjs',
  'deploy/package/current-build.mjs',
  'deploy/package/source-key.mjs',
  'shared/errors.ts',
  'shared/package-files.ts',
  'shared/thread/thread.ts',
  'shared/visible-text.ts',
];
const THROWING = `interface Nothing { readonly of: never }
export type Unused = Nothing;

function fail(): never {
  throw new RangeError('thrown on line 5');
}
`;
const PROGRAM = `import { fork } from 'node:child_process';
import { fromErrorRecord } from '../shared/errors.ts';
import { entryPoint } from '../shared/package-files.ts';
import { Thread } from '../shared/thread/thread.ts';
${THROWING.replace('line 5', 'line 9')}
void fromErrorRecord;
switch (process.argv[2]) {
  case 'process':
    fail();
  case 'thread':
    new Thread({
      module: 'worker/feed/feed-thread.ts',
      onMessage: () => undefined,
      onFailed: (error) => process.stderr.write(\`\${(error.cause as Error).stack}\`),
    });
    break;
  case 'child': {
    const { file, execArgv } = entryPoint('mixture/prepare/unit-process.ts');
    fork(file, [], { execArgv: [...execArgv] });
    break;
  }
  default:
    process.stdout.write('it runs');
}
`;

describe('builds of a checkout', () => {
  let checkout: string;
  before(async () => {
    checkout = await realpath(await mkdtemp(join(tmpdir(), 'exmix-build-')));
    for (const file of REAL) {
      await mkdir(dirname(join(checkout, file)), { recursive: true });
      await cp(join(REPOSITORY, file), join(checkout, file));
    }
    await symlink(join(REPOSITORY, 'node_modules'), join(checkout, 'node_modules'));
    const { ENTRY_POINTS } = (await import(join(checkout, 'deploy/package/source-key.mjs'))) as {
      ENTRY_POINTS: readonly string[];
    };
    for (const file of ENTRY_POINTS) {
      await mkdir(dirname(join(checkout, file)), { recursive: true });
      await writeFile(join(checkout, file), `${THROWING}\nfail();\n`);
    }
    await writeFile(join(checkout, 'cli/exmix.ts'), PROGRAM);
  });
  after(() => rm(checkout, { recursive: true }));

  const exmix = (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
    run(process.execPath, [join(checkout, 'cli/exmix.mjs'), ...args]);
  const builds = async (): Promise<string[]> =>
    (await readdir(join(checkout, 'dist'))).filter((name) => name !== 'package').sort();
  const failure = async (...args: string[]): Promise<string> => {
    const { stderr } = await exmix(...args).catch((error: unknown) => error as { stderr: string });
    return stderr;
  };

  test('two processes that start without a build make one, and both run', async () => {
    const started = await Promise.all([exmix(), exmix()]);
    assert.deepEqual(
      started.map(({ stdout }) => stdout),
      ['it runs', 'it runs'],
    );
    const [name, ...others] = await builds();
    assert.match(name!, /^[0-9a-f]{12}$/u);
    assert.deepEqual(others, []);
  });

  test('a changed source is a build of its own; the one before stays for the processes that run it', async () => {
    const known = await builds();
    await exmix();
    assert.deepEqual(await builds(), known);
    await writeFile(join(checkout, 'cli/exmix.ts'), PROGRAM.replace('it runs', 'it runs anew'));
    assert.equal((await exmix()).stdout, 'it runs anew');
    const now = await builds();
    assert.equal(now.length, 2);
    assert.ok(now.includes(known[0]!));
    await writeFile(join(checkout, 'cli/exmix.ts'), PROGRAM);
  });

  for (const [where, expected] of [
    ['process', 'cli/exmix.ts:9:'],
    ['thread', 'worker/feed/feed-thread.ts:5:'],
    ['child', 'mixture/prepare/unit-process.ts:5:'],
  ] as const)
    test(`the stack of an error in a ${where} has the line of the TypeScript source`, async () => {
      const printed = await failure(where);
      assert.ok(printed.includes(join(checkout, expected)), printed);
      assert.match(printed, /RangeError: thrown on line/u);
    });

  test('the builds that were used last are kept, and not more', async () => {
    const dist = join(checkout, 'dist');
    for (let i = 0; i < 12; i++) {
      const old = join(dist, i.toString(16).padStart(12, '0'));
      await mkdir(old);
      await utimes(old, 1000 + i, 1000 + i);
    }
    await writeFile(join(checkout, 'cli/exmix.ts'), `${PROGRAM}// changed\n`);
    await exmix();
    const kept = await builds();
    assert.equal(kept.length, 8);
    assert.ok(kept.includes('00000000000b'));
    assert.ok(!kept.includes('000000000000'));
  });

  test('a build names the npm packages in it, with their licences', async () => {
    const [name] = (await builds()).filter((one) => !one.startsWith('0000'));
    const folder = join(checkout, 'dist', name!);
    const { packages } = JSON.parse(await readFile(join(folder, 'build.json'), 'utf8')) as { packages: string[] };
    const notices = await readFile(join(folder, 'NOTICES.md'), 'utf8');
    for (const one of ['jiti', 'node-api-headers', '@tensorflow/tfjs-node-gpu']) {
      assert.ok(
        packages.some((known) => known.startsWith(`${one}@`)),
        one,
      );
      assert.match(notices, new RegExp(`^## ${one} [0-9.]+ \\(`, 'mu'));
    }
    assert.match(notices, /MIT License/u);
  });
});
