import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ManualClock } from '../shared/manual-clock.fixture.ts';
import { probePaths, type ProbeInit } from './probe-paths.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-probe-paths-'));
after(() => rmSync(root, { recursive: true }));
/** Is not probed. */
const REMOTE = 'https://mixtures.invalid/a';
const never = new AbortController().signal;

async function makeFolder() {
  const folder = mkdtempSync(join(root, 'probe-'));
  const path = join(folder, 'coordinator');
  await writeFile(path, 'the text');
  return { folder, path };
}

describe('probing paths', () => {
  test('reads the text of the coordinator and writes it to a file beside it', async () => {
    const { folder, path } = await makeFolder();
    const { text, file } = await probePaths({ path, preparedFolder: REMOTE }, new ManualClock(), never);
    assert.equal(text, 'the text');
    assert.equal(await readFile(join(folder, file), 'utf8'), text);
  });

  const missing: readonly [string, (folder: string) => Partial<ProbeInit> & { path: string }, RegExp][] = [
    ['run folder that is not there', (folder) => ({ path: join(folder, 'x', 'coordinator') }), /cannot read .*ENOENT/u],
    ['folder that it may not write', () => ({ path: '/proc/version' }), /cannot write \/proc\/worker-.*\(E[A-Z]+\)/u],
    [
      'checkpoint that is not there',
      (folder) => ({ path: join(folder, 'coordinator'), checkpoint: '/nowhere/step-2' }),
      /cannot read \/nowhere\/step-2\/manifest\.json \(ENOENT\)/u,
    ],
    [
      'prepared mixture that is not there',
      (folder) => ({ path: join(folder, 'coordinator'), preparedFolder: 'file:///nowhere/mixture' }),
      /cannot read \/nowhere\/mixture\/mixture\.json \(ENOENT\)/u,
    ],
  ];
  for (const [what, request, message] of missing)
    test(`a ${what} is PATH_UNUSABLE after some seconds; path, process, host and cure are named`, async () => {
      const { folder } = await makeFolder();
      const clock = new ManualClock();
      await assert.rejects(
        clock.during(probePaths({ preparedFolder: REMOTE, ...request(folder) }, clock, never)),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'PATH_UNUSABLE');
          assert.match(error.message, message);
          assert.ok(error.message.startsWith(`process ${process.pid} on ${hostname()}: `), error.message);
          assert.ok(error.message.includes(`mount their file system on ${hostname()} under the same path`));
          return true;
        },
      );
      assert.equal(clock.monotonicMs(), 5_000);
    });

  test('a file server that answers late is waited for', async () => {
    const folder = mkdtempSync(join(root, 'late-'));
    const clock = new ManualClock();
    const path = join(folder, 'probe', 'coordinator');
    void clock.sleep(2_000).then(async () => {
      await mkdir(join(folder, 'probe'));
      await writeFile(path, 'late');
    });
    const { text } = await clock.during(probePaths({ path, preparedFolder: REMOTE }, clock, never));
    assert.equal(text, 'late');
    assert.equal((await readdir(join(folder, 'probe'))).length, 2);
  });

  test('the signal ends it', async () => {
    const clock = new ManualClock();
    const probing = clock.during(
      probePaths({ path: '/nowhere/x', preparedFolder: REMOTE }, clock, AbortSignal.abort()),
    );
    await assert.rejects(probing, { code: 'ABORTED' });
  });
});
