import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

/** Runs in a small file system of its own: fills it, logs, makes room, logs again. Prints the lines of the file, and what a second sink saw. */
const FILLER = `
  import { readFileSync, rmSync, writeFileSync } from 'node:fs';
  import { createLogger } from './shared/logger.ts';
  const disk = process.argv[1];
  let numSeen = 0;
  const log = createLogger({ file: disk + '/log.jsonl', onRecord: () => numSeen++ });
  const line = (i) => log.warn({ i, filling: 'y'.repeat(300) }, 'line');
  line(0);
  let ballast = 0;
  try { for (;; ballast++) writeFileSync(disk + '/ballast-' + ballast, 'x'.repeat(4096)); } catch {}
  for (let i = 1; i < 40; i++) line(i);
  const held = readFileSync(disk + '/log.jsonl').length;
  for (let i = 0; i <= ballast; i++) rmSync(disk + '/ballast-' + i, { force: true });
  line(40);
  const lines = readFileSync(disk + '/log.jsonl', 'utf8').trimEnd().split('\\n').map((text) => JSON.parse(text).i);
  console.log(JSON.stringify({ held, lines, numSeen }));`;

const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;

test(
  'lines that are logged while the disk is full are in the file, in order, once there is room',
  { skip: canMount ? false : 'needs the right to mount a small file system (unshare -m)' },
  async () => {
    const disk = await mkdtemp(join(tmpdir(), 'exmix-logger-'));
    try {
      const shell = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" --import tsx --input-type=module -e "$3" "$1"';
      const args = ['-m', 'sh', '-c', shell, 'sh', disk, process.execPath, FILLER];
      const { stdout, stderr } = spawnSync('unshare', args, {
        cwd: join(import.meta.dirname, '..'),
        encoding: 'utf8',
      });
      assert.notEqual(stdout, '', stderr);
      const { held, lines, numSeen } = JSON.parse(stdout) as { held: number; lines: number[]; numSeen: number };
      assert.equal(held, 4096, 'the disk was full');
      assert.deepEqual(
        lines,
        Array.from({ length: 41 }, (_, i) => i),
      );
      assert.equal(numSeen, 41, 'the terminal sees them meanwhile');
    } finally {
      await rm(disk, { recursive: true, force: true });
    }
  },
);
