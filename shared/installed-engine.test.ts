import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import {
  ENGINE_FORMAT,
  enginesFolder,
  findInstalledEngine,
  listInstalledEngines,
  searchInstalledEngine,
  SESSION_ADDON,
  TFJS_ADDON,
  type EngineManifest,
} from './installed-engine.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-installed-'));
after(() => rmSync(root, { recursive: true, force: true }));
let numHomes = 0;
const newHome = (): string => join(root, String(numHomes++));

/** Writes an engine of tiny files. @returns its folder */
function writeEngine(home: string, id: string, change: Record<string, unknown> = {}): string {
  const folder = join(enginesFolder(home), id);
  const contents = { [TFJS_ADDON]: 'addon', [SESSION_ADDON]: 'session', 'deps/lib/libtensorflow_cc.so.2': 'library' };
  for (const [path, text] of Object.entries(contents)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  const manifest: EngineManifest = {
    format: ENGINE_FORMAT,
    id,
    flavour: 'cpu',
    tensorflowVersion: '2.21.0',
    platform: `${process.platform}-${process.arch}`,
    napiVersion: 8,
    wheels: [{ file: 'a.whl', recordSha256: '0'.repeat(64) }],
    recipe: '1'.repeat(64),
    compiler: 'g++ 12',
    installedAt: '2026-11-23T08:00:00.000Z',
    files: Object.entries(contents).map(([path, text]) => ({
      path,
      bytes: text.length,
      sha256: createHash('sha256').update(text).digest('hex'),
    })),
  };
  writeFileSync(join(folder, 'engine.json'), JSON.stringify({ ...manifest, ...change }));
  return folder;
}

test('a missing home, and a home with unfinished folders only, have no engine', async () => {
  const home = newHome();
  assert.equal(await findInstalledEngine(home), undefined);
  mkdirSync(join(enginesFolder(home), '.partial-host-1-0-engine'), { recursive: true });
  assert.equal(await findInstalledEngine(home), undefined);
  assert.deepEqual(await listInstalledEngines(home), []);
});

test('an engine is found with absolute paths of its addons', async () => {
  const home = newHome();
  const folder = writeEngine(home, 'cpu-a');
  const engine = await findInstalledEngine(home);
  assert.equal(engine?.folder, folder);
  assert.equal(engine.addonPath, join(folder, 'lib/napi-v8/tfjs_binding.node'));
  assert.equal(engine.sessionAddonPath, join(folder, 'lib/napi-v8/session_addon.node'));
});

test('the newest TensorFlow is used, by number not by text; then cuda; then the latest installation', async () => {
  const home = newHome();
  writeEngine(home, 'a', { tensorflowVersion: '2.9.3', flavour: 'cuda' });
  assert.equal((await findInstalledEngine(home))?.id, 'a');
  writeEngine(home, 'b', { tensorflowVersion: '2.21.0' });
  assert.equal((await findInstalledEngine(home))?.id, 'b');
  writeEngine(home, 'c', { tensorflowVersion: '2.21.0', installedAt: '2026-11-24T08:00:00.000Z' });
  assert.equal((await findInstalledEngine(home))?.id, 'c');
  writeEngine(home, 'd', { tensorflowVersion: '2.21.0', flavour: 'cuda' });
  assert.equal((await findInstalledEngine(home))?.id, 'd');
});

const DAMAGES: readonly [string, (folder: string) => void, RegExp][] = [
  ['no manifest', (folder) => unlinkSync(join(folder, 'engine.json')), /^engine\.json is missing$/u],
  ['a torn manifest', (folder) => writeFileSync(join(folder, 'engine.json'), '{"format": 1,'), /is not JSON/u],
  [
    'a missing library',
    (folder) => unlinkSync(join(folder, 'deps/lib/libtensorflow_cc.so.2')),
    /libtensorflow_cc\.so\.2 is missing/u,
  ],
  ['a truncated addon', (folder) => writeFileSync(join(folder, TFJS_ADDON), 'a'), /expected 5 B, got 1 B/u],
];
for (const [what, damage, pattern] of DAMAGES)
  test(`an engine with ${what} is skipped with the reason, and alone it is an error`, async () => {
    const home = newHome();
    damage(writeEngine(home, 'damaged'));
    await assert.rejects(findInstalledEngine(home), { code: 'ENGINE_UNAVAILABLE', message: /exmix engine remove ID/u });
    writeEngine(home, 'sound', { tensorflowVersion: '1.0.0' });
    const { found, damaged } = await searchInstalledEngine(home);
    assert.equal(found?.id, 'sound');
    assert.equal(damaged.length, 1);
    assert.match(damaged[0]!.problems.join(), pattern);
  });

const FOREIGN: readonly [string, Record<string, unknown>, RegExp][] = [
  ['another format', { format: ENGINE_FORMAT + 1, other: true }, /uses \d+: exmix engine install/u],
  ['another platform', { platform: 'linux-mips' }, /made for linux-mips/u],
  ['another id', { id: 'moved' }, /engine\.json is that of moved/u],
  [
    'a path that leaves the folder',
    { files: [{ path: '../x', bytes: 1, sha256: '0'.repeat(64) }] },
    /a path within the engine/u,
  ],
  ['no addon', { files: [] }, /lists no lib\/napi-v8\/tfjs_binding\.node/u],
];
for (const [what, change, pattern] of FOREIGN)
  test(`a manifest with ${what} is not used`, async () => {
    const home = newHome();
    writeEngine(home, 'foreign', change);
    const [listed] = await listInstalledEngines(home);
    assert.match(listed!.problems.join('; '), pattern);
    assert.equal((await searchInstalledEngine(home)).found, undefined);
  });

test('a changed byte is found by hashes, not by sizes', async () => {
  const home = newHome();
  writeFileSync(join(writeEngine(home, 'a'), 'deps/lib/libtensorflow_cc.so.2'), 'librarY');
  assert.deepEqual((await listInstalledEngines(home, 'sizes'))[0]?.problems, []);
  assert.deepEqual((await listInstalledEngines(home, 'hashes'))[0]?.problems, [
    'deps/lib/libtensorflow_cc.so.2 has another SHA-256',
  ]);
});
