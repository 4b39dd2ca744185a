import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { hostname } from 'node:os';
import { describe, test } from 'node:test';
import {
  identityOf,
  isAlive,
  isProvenAlive,
  ownIdentity,
  processIdentitySchema,
  whyGone,
  type ProcessIdentity,
} from './process-identity.ts';

const LINUX = { skip: process.platform === 'linux' ? false : 'boot and start of a process come from /proc' };

describe('process identity', () => {
  test('of this process: it is alive, and the identity survives JSON', () => {
    const own = ownIdentity();
    assert.deepEqual([own.pid, own.host], [process.pid, hostname()]);
    assert.equal(whyGone(own), undefined);
    assert.deepEqual(processIdentitySchema.parse(JSON.parse(JSON.stringify(own))), own);
    assert.deepEqual(identityOf(process.pid), own);
  });

  test('of this process on Linux: it has a boot and a start, and is proven alive', LINUX, () => {
    const own = ownIdentity();
    assert.match(own.bootId ?? '', /^[\da-f-]{36}$/u);
    assert.match(own.processStart ?? '', /^\d+$/u);
    assert.ok(isProvenAlive(own));
  });

  const cases: readonly (readonly [string, Partial<ProcessIdentity>, string | undefined])[] = [
    ['of another boot', { bootId: 'earlier' }, undefined],
    ['of another PID namespace', { pidNamespace: 'pid:[1]', pid: 4_000_000 }, undefined],
    ['of a file of an earlier version', { pidNamespace: null, pid: 4_000_000 }, undefined],
    ['that started at another time', { processStart: '1' }, 'that process is gone and its number is used by another'],
    ['on another host', { host: 'elsewhere', bootId: 'its own', processStart: '1' }, undefined],
  ];
  for (const [name, change, reason] of cases)
    test(`a process ${name}: ${reason ?? 'may be alive'}; it is not proven alive`, LINUX, () => {
      const other = { ...ownIdentity(), ...change };
      assert.equal(whyGone(other), reason);
      assert.equal(isProvenAlive(other), false);
    });

  test('with an unknown start: may be alive, is not proven alive', () => {
    const vague = { ...ownIdentity(), bootId: null, processStart: null };
    assert.equal(whyGone(vague), undefined);
    assert.equal(isProvenAlive(vague), false);
  });

  test('a child: alive until it is killed', async () => {
    const child = spawn('sleep', ['600']);
    const identity = identityOf(child.pid!);
    assert.equal(whyGone(identity), undefined);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(whyGone(identity), 'that process is gone');
    assert.equal(isProvenAlive(identity), false);
  });

  test('a zombie process is gone', { ...LINUX, timeout: 240_000 }, async (context) => {
    // The shell becomes `sleep`, which does not ask for the end of the child that it inherits.
    const parent = spawn('sh', ['-c', 'sleep 600 & echo $!; exec sleep 600'], { stdio: ['ignore', 'pipe', 'inherit'] });
    context.after(() => parent.kill('SIGKILL'));
    const [said] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(said.toString());
    const identity = identityOf(pid);
    assert.ok(isProvenAlive(identity));
    process.kill(pid, 'SIGKILL');
    while (isAlive(pid)) await new Promise(setImmediate);
    assert.doesNotThrow(() => process.kill(pid, 0), 'its number is still taken');
    assert.equal(whyGone(identity), 'that process is gone');
  });
});
