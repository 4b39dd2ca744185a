import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Clock } from '../../shared/clock.ts';
import { systemClock } from '../../shared/clock.ts';
import { FileWatch, UNSEEN_CHANGE_MS } from './file-watch.ts';

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-watch-'));
});
after(() => rm(root, { recursive: true, force: true }));

const { signal } = new AbortController();
/** Its sleep ends by its signal alone: a change must be told by an event. */
const noTimer: Clock = { ...systemClock, sleep: (_, until) => systemClock.sleep(2_147_483_647, until) };

describe('a watched file', () => {
  test('is told to change when it appears with its folder, grows, and is replaced', async () => {
    const folder = join(await mkdtemp(join(root, 'case-')), 'run');
    const path = join(folder, 'journal');
    const watch = new FileWatch(path, noTimer);
    await watch.changed(signal);
    for (const change of [
      () => mkdir(folder),
      () => writeFile(path, 'a'),
      () => appendFile(path, 'b'),
      async () => {
        await writeFile(`${path}.own`, 'ab');
        await rename(`${path}.own`, path);
      },
      () => appendFile(path, 'c'),
    ]) {
      const changed = watch.changed(signal);
      await change();
      await changed;
    }
    watch.close();
  });

  test('is taken to have changed after a while without an event, and watched anew', async () => {
    const sleeps: number[] = [];
    const clock: Clock = {
      ...systemClock,
      sleep: (ms) => {
        sleeps.push(ms);
        return Promise.resolve();
      },
    };
    const watch = new FileWatch(join(root, 'missing', 'run', 'journal'), clock);
    await watch.changed(signal);
    await watch.changed(signal);
    assert.deepEqual(sleeps, [UNSEEN_CHANGE_MS, UNSEEN_CHANGE_MS]);
    watch.close();
  });

  test('is not waited for when the signal fires', async () => {
    const stop = new AbortController();
    const watch = new FileWatch(join(root, 'journal'), noTimer);
    await watch.changed(stop.signal);
    const changed = watch.changed(stop.signal);
    stop.abort();
    await assert.rejects(changed, { code: 'ABORTED' });
    await assert.rejects(watch.changed(stop.signal), { code: 'ABORTED' });
    watch.close();
  });
});
