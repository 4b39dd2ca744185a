import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { STOP_SIGNALS } from '../shared/stop-signals.ts';
import { ProcessSignals, untilInterrupted } from './process-signals.ts';

/** Sends a signal to this process. @returns when its handlers have run */
async function send(name: NodeJS.Signals): Promise<void> {
  const alive = setInterval(() => undefined, 60_000); // waiting for a signal does not keep the process alive
  const handled = once(process, name);
  process.kill(process.pid, name);
  await handled;
  clearInterval(alive);
}

describe('signals to a process', () => {
  for (const name of STOP_SIGNALS)
    test(`${name} stops it gently; the same one repeated is one request, another one ends it at once`, async (t) => {
      const signals = new ProcessSignals({ canStopGently: true });
      t.after(() => signals.dispose());
      t.mock.method(performance, 'now', () => 1_000);
      await send(name);
      assert.equal(signals.gentle.reason, name);
      await send(name);
      assert.equal(signals.atOnce.aborted, false);
      await send(name === 'SIGINT' ? 'SIGTERM' : 'SIGINT');
      assert.equal(signals.atOnce.aborted, true);
    });

  test('the same one after a quarter of a second ends it at once', async (t) => {
    const signals = new ProcessSignals({ canStopGently: true });
    t.after(() => signals.dispose());
    let nowMs = 1_000;
    t.mock.method(performance, 'now', () => nowMs);
    await send('SIGINT');
    nowMs += 250;
    await send('SIGINT');
    assert.equal((signals.atOnce.reason as { code: string }).code, 'ABORTED');
  });

  test('before there is anything to save, the first one ends it at once', async (t) => {
    const signals = new ProcessSignals({ canStopGently: false });
    t.after(() => signals.dispose());
    await send('SIGHUP');
    assert.deepEqual([signals.gentle.aborted, signals.atOnce.aborted], [false, true]);
  });

  test('cancel work, and have no handler afterwards', async () => {
    const reason = await untilInterrupted(async (signal) => {
      await send('SIGHUP');
      return signal.reason as string;
    });
    assert.equal(reason, 'SIGHUP');
    for (const name of STOP_SIGNALS) assert.equal(process.listenerCount(name), 0, name);
  });
});
