import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readCheckpoint, train } from 'exmix';
import { SETTINGS, trainOwnTask } from './train.ts';

describe('the example of a program', () => {
  let folder: string;
  const home = process.env['EXMIX_HOME'];
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exmix-example-'));
    process.env['EXMIX_HOME'] = join(folder, 'home');
  });
  after(async () => {
    if (home === undefined) delete process.env['EXMIX_HOME'];
    else process.env['EXMIX_HOME'] = home;
    await rm(folder, { recursive: true });
  });

  test('it trains a task of its own and reads the checkpoint', async () => {
    const [losses, parameters, embedding] = await trainOwnTask(join(folder, 'run'));
    const values = losses!.split(' ').slice(1).map(Number);
    assert.equal(values.length, 6);
    assert.ok(values.at(-1)! < values[0]!, losses);
    const { paramDigest } = await readCheckpoint(join(folder, 'run', 'checkpoints', 'step-6'));
    assert.equal(parameters, `step 6, parameters ${paramDigest}`);
    assert.match(embedding!, /^embedding \[8064, 32\], "upper: stone" is ids \d+( \d+)*$/u);
  });

  test('a run that a signal stopped is resumed, with the bits of the run above', async () => {
    const runDir = join(folder, 'stopped');
    const stop = new AbortController();
    const stopped = await train({
      settings: SETTINGS,
      workers: 1,
      runDir,
      signal: stop.signal,
      onRecord: ({ msg }) => {
        if (msg === 'step committed') stop.abort('enough');
      },
    });
    assert.ok(stopped.isInterrupted);
    assert.ok(stopped.step >= 1 && stopped.step < 6, `stopped after step ${stopped.step}`);
    const resumed = await train({ resume: runDir, workers: 1 });
    assert.equal(resumed.step, 6);
    assert.ok(!resumed.isInterrupted);
    assert.equal(resumed.runDir, runDir);
    const { paramDigest } = await readCheckpoint(join(folder, 'run', 'checkpoints', 'step-6'));
    assert.equal(resumed.paramDigest, paramDigest);
  });
});
