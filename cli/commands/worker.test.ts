import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../../shared/errors.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import { ScriptedCoordinator } from '../../worker/scripted-coordinator.fixture.ts';
import { EXIT_INTERRUPTED, exitCodeOf } from '../exit-codes.ts';

const EXMIX = fileURLToPath(new URL('../exmix.mjs', import.meta.url));
const TOKEN = 'a-token-of-the-test';

async function start(t: TestContext) {
  const coordinator = await ScriptedCoordinator.listen(webSocketTransport, TOKEN);
  const child = spawn(process.execPath, [EXMIX, 'worker', '--url', coordinator.url, '--id', 'w'], {
    env: { ...process.env, EXMIX_TOKEN: TOKEN },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 200_000,
    killSignal: 'SIGKILL',
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
    child.once('close', (code) => resolve({ code, stderr })),
  );
  t.after(async () => {
    child.kill('SIGKILL');
    await coordinator.close();
  });
  const peer = await coordinator.peer();
  await peer.receive('join');
  return { child, ended, peer };
}

describe('exmix worker', { timeout: 240_000 }, () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    test(`${signal} ends it with status ${EXIT_INTERRUPTED} and a normal close of its socket`, async (t) => {
      const { child, ended, peer } = await start(t);
      child.kill(signal);
      const { code, stderr } = await ended;
      assert.equal(code, EXIT_INTERRUPTED, stderr);
      assert.match(stderr, new RegExp(`ABORTED: the worker was stopped \\(${signal}\\)`, 'u'));
      const closed = await peer.closed;
      assert.deepEqual([closed.code, closed.reason], [1000, `the worker was stopped (${signal})`]);
    });

  test('a refusal by the coordinator ends it with the reason', async (t) => {
    const { ended, peer } = await start(t);
    peer.close('JOIN_REFUSED', 'this run has its workers already');
    const { code, stderr } = await ended;
    assert.equal(code, exitCodeOf(new TrainerError('JOIN_REFUSED', '')));
    assert.match(stderr, /JOIN_REFUSED: .*this run has its workers already/u);
  });
});
