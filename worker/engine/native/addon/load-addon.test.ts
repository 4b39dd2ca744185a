/** What can be told without a native engine; with one: deploy/engine/installed-engine.native.test.ts. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { loadAddon } from './load-addon.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-addon-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const options = { numThreads: 1, device: 'cpu', allowTf32: false, xla: false } as const;

test('a missing addon is ENGINE_UNAVAILABLE, with advice', () => {
  const addonPath = join(folder, 'none.node');
  assert.throws(() => loadAddon({ ...options, addonPath }), {
    code: 'ENGINE_UNAVAILABLE',
    message: /none\.node.*exmix engine install/u,
  });
});

test('a file that is no library is ENGINE_UNAVAILABLE too', () => {
  const addonPath = join(folder, 'text.node');
  writeFileSync(addonPath, 'not a library');
  assert.throws(() => loadAddon({ ...options, addonPath }), { code: 'ENGINE_UNAVAILABLE' });
});

test('functions that newer Nodes removed from util are there for tfjs-node', () => {
  // As compiled CommonJS sees it.
  const util = createRequire(import.meta.url)('node:util') as Record<string, (value: unknown) => boolean>;
  assert.deepEqual([null, undefined, 0, ''].map(util['isNullOrUndefined']!), [true, true, false, false]);
  assert.deepEqual([[], {}, undefined].map(util['isArray']!), [true, false, false]);
});

test('off the main thread it is refused: the environment would not reach TensorFlow', async () => {
  const source = `
    const { parentPort } = require('node:worker_threads');
    require('tsx/cjs/api').register();
    const { loadAddon } = require(${JSON.stringify(join(import.meta.dirname, 'load-addon.ts'))});
    try { loadAddon({ addonPath: '/x', numThreads: 1, device: 'cpu', allowTf32: false, xla: false }); }
    catch (error) { parentPort.postMessage(error.code + ' ' + error.message); }`;
  const file = join(import.meta.dirname, 'thread-of-a-test.cjs');
  const worker = new Worker(source, { eval: true, argv: [file] });
  const answer = await new Promise<unknown>((resolve, reject) => worker.once('message', resolve).once('error', reject));
  assert.match(String(answer), /^INTERNAL .*main thread/u);
});
