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
const ROOMS = ['api', 'cli', 'coordinator', 'deploy', 'evaluation', 'mixture', 'shared', 'worker'];
const isProduct = (/** @type {string} */ name) => /\.ts$/u.test(name) && !/\.(?:test|fixture|d)\.ts$/u.test(name);

/** @returns {string} the key of the product's sources and of what else decides its build */
export function sourceKey() {
  const settings = sourceFiles(['deploy/package'], (name) => name.endsWith('.mjs'));
  return keyOf([...sourceFiles(ROOMS, isProduct), ...settings, 'package-lock.json']);
}

/** @returns {string[]} paths under these folders, relative to the root, in a fixed order; a folder may be missing */
export function sourceFiles(folders, isSource) {
  return folders.flatMap((folder) => {
    let entries;
    try {
      entries = readdirSync(join(ROOT, folder), { withFileTypes: true });
    } catch (error) {
      if (error.code === 'ENOENT') return [];
      throw error;
    }
    return entries
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => {
        const path = `${folder}/${entry.name}`;
        if (entry.isDirectory()) return sourceFiles([path], isSource);
        return isSource(entry.name) ? [path] : [];
      });
  });
}

/** @returns {string} of the names, sizes and times of files */
export function keyOf(files) {
  const hash = createHash('sha256');
  for (const file of files) {
    const { size, mtimeMs } = statSync(join(ROOT, file));
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 12);
}
