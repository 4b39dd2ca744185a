import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { identityOf, isAlive } from '../../shared/process-identity.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import { adoptProcess, startProcess, type WorkerProcess } from './worker-process.ts';

const SLEEP = ['sleep', '600'] as const;

function start(t: TestContext, command: readonly [string, ...string[]], abandoned = new AbortController().signal) {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-worker-process-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const logFile = join(folder, 'log');
  const process = startProcess({ command: [...command], env: { WORD: 'hello' }, logFile, abandoned });
  t.after(() => process.signal('SIGKILL'));
  return { process, logFile };
}

describe('a started process', () => {
  const ends: readonly (readonly [string, readonly [string, ...string[]], object])[] = [
    ['a status', ['/bin/sh', '-c', 'exit 7'], { kind: 'exited', status: 7 }],
    ['a signal', ['/bin/sh', '-c', 'kill -TERM $$'], { kind: 'killed', signal: 'SIGTERM' }],
  ];
  for (const [how, command, expected] of ends)
    test(`ends with ${how}`, async (t) => {
      assert.deepEqual(await start(t, command).process.ended, expected);
    });

  test('appends its standard output and error to its file, and gets the given environment', async (t) => {
    const { process, logFile } = start(t, ['/bin/sh', '-c', 'echo "$WORD"; echo "$WORD again" >&2']);
    await process.ended;
    assert.equal(readFileSync(logFile, 'utf8'), 'hello\nhello again\n');
  });

  test('with a missing program or a missing log folder was not started', async (t) => {
    const { process } = start(t, ['/no/such/program']);
    assert.equal(process.identity, null);
    const { kind } = await process.ended;
    assert.equal(kind, 'not-started');
    const abandoned = new AbortController().signal;
    const mute = startProcess({ command: [...SLEEP], env: {}, logFile: '/no/such/folder/log', abandoned });
    assert.equal(mute.identity, null);
    assert.match(JSON.stringify(await mute.ended), /not-started.*ENOENT/u);
  });

  test('that is abandoned rejects `ended` and stays alive', async (t) => {
    const abandon = new AbortController();
    const { process } = start(t, SLEEP, abandon.signal);
    abandon.abort();
    await assert.rejects(process.ended, { code: 'ABORTED' });
    assert.ok(isAlive(process.identity!.pid));
  });
});

describe('an adopted process', () => {
  function child(t: TestContext) {
    const started = spawn(SLEEP[0], [SLEEP[1]]);
    t.after(() => started.kill('SIGKILL'));
    return started;
  }

  test('is signalled, and its end is found by polling', async (t) => {
    const started = child(t);
    const clock = new ManualClock();
    const adopted: WorkerProcess = adoptProcess(identityOf(started.pid!), clock, new AbortController().signal);
    adopted.signal('SIGTERM');
    const [, signal] = (await once(started, 'exit')) as [unknown, string];
    assert.equal(signal, 'SIGTERM');
    await clock.advance(500);
    assert.deepEqual(await adopted.ended, { kind: 'vanished' });
    adopted.signal('SIGKILL');
  });

  test('whose pid belongs to another process has vanished, and the other process is not signalled', async (t) => {
    const started = child(t);
    const former = { ...identityOf(started.pid!), processStart: '1' };
    const adopted = adoptProcess(former, new ManualClock(), new AbortController().signal);
    assert.deepEqual(await adopted.ended, { kind: 'vanished' });
    adopted.signal('SIGKILL');
    const exited = once(started, 'exit');
    started.kill('SIGTERM'); // a wrong SIGKILL above would end it first
    assert.deepEqual(await exited, [null, 'SIGTERM']);
  });
});
