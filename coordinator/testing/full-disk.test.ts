/** Journal, ledger and coordinator on full file systems: each scenario runs in a process with a small one of its own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const FIXTURE = fileURLToPath(new URL('./full-disk.fixture.ts', import.meta.url));
const MOUNTED = 'mount -t tmpfs -o size=512k none "$1" && exec "$2" --import tsx "$3" "$4" "$1"';
const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;

describe('on a full disk', () => {
  for (const [scenario, sentence] of [
    ['journal waits', 'a record waits for free space, later ones wait behind it, and the file has each once, in order'],
    ['journal closed', 'closing the journal ends the wait with DISK_FULL, and the file has the acknowledged records'],
    ['journal aborted', 'the signal ends the wait with DISK_FULL, and the file has the acknowledged records'],
    ['journal killed', 'a coordinator killed while it waits leaves a journal that opens and continues'],
    ['run waits', 'a coordinator commits nothing while it waits, reports the wait in its status, and finishes the run'],
    ['ledger waits', 'a run that is paused again and again loses no step and repeats none'],
    ['ledger closed', 'closing the ledger ends the wait with DISK_FULL, and the next session continues'],
    ['ledger aborted', 'the signal ends the wait of the ledger with DISK_FULL, and the next session continues'],
  ] as const)
    test(
      sentence,
      { skip: canMount ? false : 'needs the right to mount a small file system (unshare -m)' },
      async () => {
        const disk = await mkdtemp(join(tmpdir(), 'exmix-full-disk-'));
        try {
          const args = ['-m', 'sh', '-c', MOUNTED, 'sh', disk, process.execPath, FIXTURE, scenario];
          const { stdout, stderr, status } = spawnSync('unshare', args, {
            cwd: join(import.meta.dirname, '..'),
            encoding: 'utf8',
            timeout: 240_000,
          });
          assert.equal(status, 0, stderr);
          assert.equal(stdout, `shown: ${scenario}\n`);
        } finally {
          await rm(disk, { recursive: true, force: true });
        }
      },
    );
});
