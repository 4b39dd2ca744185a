import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { hashFile } from './atomic-file.ts';
import { TrainerError } from './errors.ts';
import { readIfThere, readSmallFile, readSmallFileSync } from './small-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-small-file-'));
after(() => rmSync(folder, { recursive: true }));

const place = (name: string): string => join(folder, name);

const READERS = [
  ['readSmallFile', (path: string, maxBytes?: number) => readSmallFile(path, maxBytes)],
  // eslint-disable-next-line @typescript-eslint/require-await -- a throw becomes a rejection
  ['readSmallFileSync', async (path: string, maxBytes?: number) => readSmallFileSync(path, maxBytes)],
] as const;

for (const [name, read] of READERS)
  describe(name, () => {
    test('reads a file whole, up to the bound', async () => {
      writeFileSync(place('whole'), 'x'.repeat(5000));
      assert.equal((await read(place('whole'), 5000)).toString(), 'x'.repeat(5000));
      writeFileSync(place('empty'), '');
      assert.equal((await read(place('empty'), 0)).length, 0);
    });

    test('refuses a file of one byte more than the bound', async () => {
      writeFileSync(place('large'), 'x'.repeat(5001));
      await assert.rejects(read(place('large'), 5000), {
        code: 'PATH_UNUSABLE',
        message: `${place('large')}: expected at most 5000 B, found 5001 B`,
      });
    });

    test('refuses a sparse file of a terabyte without reading it', async () => {
      writeFileSync(place('sparse'), '');
      truncateSync(place('sparse'), 1e12);
      await assert.rejects(read(place('sparse')), { code: 'PATH_UNUSABLE' });
    });

    test('refuses a FIFO without a writer at once', async () => {
      execFileSync('mkfifo', [place(`fifo-${name}`)]);
      await assert.rejects(read(place(`fifo-${name}`)), {
        code: 'PATH_UNUSABLE',
        message: /expected a regular file, found a FIFO/u,
      });
    });

    test('refuses a device, also behind a link', async () => {
      symlinkSync('/dev/zero', place(`zero-${name}`));
      for (const path of ['/dev/zero', place(`zero-${name}`)])
        await assert.rejects(read(path), { code: 'PATH_UNUSABLE', message: /found a device/u });
    });

    test('refuses a folder', async () => {
      mkdirSync(place(`folder-${name}`));
      await assert.rejects(read(place(`folder-${name}`)), { code: 'PATH_UNUSABLE', message: /found a folder/u });
    });

    test('reads a file of the kernel that states no size', async () => {
      const text = (await read('/proc/self/status')).toString();
      assert.match(text, /^Name:/u);
      assert.match(text, /\nPid:/u);
    });

    test('bounds a file that states less than it holds', async () => {
      await assert.rejects(read('/proc/self/status', 16), {
        code: 'PATH_UNUSABLE',
        message: /at most 16 B, found more/u,
      });
    });

    test('follows a link to a file, and leaves the failures of the system as they are', async () => {
      writeFileSync(place(`target-${name}`), 'text');
      symlinkSync(place(`target-${name}`), place(`link-${name}`));
      assert.equal((await read(place(`link-${name}`))).toString(), 'text');
      await assert.rejects(read(place('nothing')), { code: 'ENOENT' });
    });
  });

describe('other readers', () => {
  test('readIfThere gives undefined for no file, and refuses a FIFO', async () => {
    assert.equal(await readIfThere(place('nothing')), undefined);
    execFileSync('mkfifo', [place('fifo-if-there')]);
    await assert.rejects(readIfThere(place('fifo-if-there')), { code: 'PATH_UNUSABLE' });
  });

  test('hashFile refuses a FIFO and a device at once', async () => {
    execFileSync('mkfifo', [place('fifo-hash')]);
    for (const path of [place('fifo-hash'), '/dev/zero'])
      await assert.rejects(hashFile(path), { code: 'PATH_UNUSABLE' });
  });

  test('a socket is refused', async () => {
    const server = createServer().listen(place('socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    await assert.rejects(
      readIfThere(place('socket')),
      (error) => error instanceof TrainerError && error.code === 'PATH_UNUSABLE',
    );
    server.close();
  });
});
