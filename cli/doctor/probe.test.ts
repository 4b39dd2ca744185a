import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../../shared/errors.ts';
import { layOut } from '../../worker/machine/machine-folder.fixture.ts';
import { diskProbes } from './disk-probes.ts';
import { askEngine } from './engine-probe.ts';
import { installedEngineProbe } from './installed-engine-probe.ts';
import { loopbackProbe } from './loopback-probe.ts';
import { runProbe, type DoctorContext } from './probe.ts';

function contextOf(t: TestContext, files: Readonly<Record<string, string>> = {}): DoctorContext {
  const root = layOut(t, files);
  return { root, folder: root, home: join(root, 'home'), environment: process.env };
}

describe('probes', () => {
  test('a probe that hangs fails at its deadline, and its signal is aborted', async (t) => {
    let isAborted = false;
    const hanging = (_context: DoctorContext, signal: AbortSignal) =>
      new Promise<never>(() => signal.addEventListener('abort', () => (isAborted = true)));
    const [finding] = await runProbe({ check: 'x', deadlineMs: 5, run: hanging }, contextOf(t));
    assert.deepEqual([finding!.status, finding!.detail], ['fail', 'no answer within 0.005 s']);
    assert.ok(isAborted);
  });

  test('a probe that throws gives a finding with the code of the error', async (t) => {
    const run = () => Promise.reject(new TrainerError('PATH_UNUSABLE', 'no such folder'));
    const [finding] = await runProbe({ check: 'x', deadlineMs: 1000, run }, contextOf(t));
    assert.deepEqual(finding, { check: 'x', status: 'fail', detail: 'PATH_UNUSABLE: no such folder' });
  });

  test('the disk probes measure the given folder and leave no file in it', async (t) => {
    const context = { ...contextOf(t, { 'a/b': '' }), home: '/nowhere/at/all' };
    for (const probe of diskProbes) {
      const findings = await runProbe(probe, context);
      assert.ok(
        findings.length > 0 && findings.every(({ figures }) => figures !== undefined),
        JSON.stringify(findings),
      );
    }
    assert.deepEqual(readdirSync(context.root), ['a']);
  });

  test('the loopback is measured through a real socket', async (t) => {
    const [finding] = await runProbe(loopbackProbe, contextOf(t));
    assert.ok(finding!.figures!['bytesPerSecond']! > 1e6, JSON.stringify(finding));
  });
});

describe('on a machine with defects', () => {
  test('without pip and compiler, the advice names the packages to install', async (t) => {
    const context = contextOf(t);
    const [finding] = await runProbe(installedEngineProbe, { ...context, environment: { PATH: context.root } });
    assert.equal(finding!.status, 'warn');
    assert.match(finding!.advice!, /first needs: .*pip.*C\+\+ compiler.*apt-get install python3-pip g\+\+/u);
  });

  test('a damaged engine fails, and the advice is to remove it', async (t) => {
    const context = contextOf(t, { 'home/engines/cpu-2.21.0-abc/engine.json': '{ "format": 1, ' });
    const [finding] = await runProbe(installedEngineProbe, context);
    assert.equal(finding!.status, 'fail');
    assert.match(finding!.detail, /damaged: cpu-2\.21\.0-abc: engine\.json is not JSON/u);
    assert.match(finding!.advice!, /exmix engine remove cpu-2\.21\.0-abc/u);
  });

  test('a requested engine that is missing fails with the message of its process', async (t) => {
    const { home } = contextOf(t);
    const settings = { numThreads: 1, precision: 'float32', xla: false, allowTf32: false } as const;
    const asked = askEngine(
      { engine: 'native', device: 'auto', ...settings },
      { ...process.env, EXMIX_HOME: home },
      new AbortController().signal,
    );
    await assert.rejects(asked, { code: 'ENGINE_UNAVAILABLE', message: /is not installed; run exmix engine install/u });
  });

  const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;
  test(
    'a nearly full disk fails, and no file is left on it',
    { skip: canMount ? false : 'needs the right to mount a small file system (unshare -m)' },
    (t) => {
      const mountPoint = join(contextOf(t).root, 'small');
      mkdirSync(mountPoint);
      const program = `
        import { readdirSync } from 'node:fs';
        const { diskProbes } = await import(${JSON.stringify(new URL('disk-probes.ts', import.meta.url).href)});
        const { runProbe } = await import(${JSON.stringify(new URL('probe.ts', import.meta.url).href)});
        const folder = process.argv[2];
        const context = { root: '/', folder, home: folder, environment: {} };
        const findings = [];
        for (const probe of diskProbes) findings.push(...(await runProbe(probe, context)));
        process.stdout.write(JSON.stringify({ findings, left: readdirSync(folder) }));`;
      const file = join(contextOf(t).root, 'program.mjs');
      writeFileSync(file, program);
      const mounted = 'mount -t tmpfs -o size=2m none "$0" && exec "$1" --import tsx "$2" "$0"';
      const args = ['-m', 'sh', '-c', mounted, mountPoint, process.execPath, file];
      const cwd = fileURLToPath(new URL('../..', import.meta.url));
      const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', cwd });
      assert.notEqual(stdout, '', stderr);
      const { findings, left } = JSON.parse(stdout) as {
        findings: { status: string; detail: string }[];
        left: string[];
      };
      assert.deepEqual(left, []);
      assert.ok(
        findings.every(({ status }) => status === 'fail'),
        stdout,
      );
      assert.match(
        findings.map(({ detail }) => detail).join('\n'),
        /2 MiB free in .*cannot write 32 MiB in .*: the disk is full/su,
      );
    },
  );
});
