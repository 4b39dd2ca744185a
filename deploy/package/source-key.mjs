// What a build is made of, and a key of its state.
import { createHash } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Modules that a process, a thread or an import starts with: shared/package-files.ts. */
export const ENTRY_POINTS = [
  'api/index.ts',
  'cli/exmix.ts',
  'worker/network/network-thread.ts',
  'worker/feed/feed-thread.ts',
  'worker/checkpoint/shard-writer.ts',
  'worker/engine/native/addon/probe-addon.ts',
  'mixture/prepare/unit-process.ts',
];
/** Folders with TypeScript of the product. */
const ROOMS = ['api', 'cli', 'coordinator', 'deploy', 'mixture', 'shared', 'worker'];
/** What else decides what a build is. */
const SETTINGS = ['package.json', 'package-lock.json', 'deploy/package'];

/** @returns {string} */
export function sourceKey() {
  const hash = createHash('sha256');
  const isSource = (/** @type {string} */ name) => /\.ts$/u.test(name) && !/\.(?:test|fixture|d)\.ts$/u.test(name);
  for (const room of ROOMS) addFolder(hash, room, isSource);
  for (const path of SETTINGS)
    if (statSync(join(ROOT, path)).isDirectory()) addFolder(hash, path, () => true);
    else addFile(hash, path);
  return hash.digest('hex').slice(0, 12);
}

function addFolder(hash, folder, isSource) {
  let entries;
  try {
    entries = readdirSync(join(ROOT, folder), { withFileTypes: true });
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) addFolder(hash, path, isSource);
    else if (isSource(entry.name)) addFile(hash, path);
  }
}

function addFile(hash, path) {
  const { size, mtimeMs } = statSync(join(ROOT, path));
  hash.update(`${path} ${size} ${mtimeMs}\n`);
}
