/** Tests with a real engine, which must be installed in $EXMIX_HOME (exmix engine install), and g++. Run by `npm run test:native`. */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { assertInvariant } from '../../shared/errors.ts';
import { exmixHome } from '../../shared/exmix-home.ts';
import {
  enginesFolder,
  findInstalledEngine,
  listInstalledEngines,
  type InstalledEngine,
} from '../../shared/installed-engine.ts';
import { freeBytes } from './free-space.ts';
import { readHost } from './host.ts';
import { installEngine, type InstallComponents } from './install-engine.ts';
import { selfTest } from './self-test.ts';

const PROBE = fileURLToPath(new URL('../../worker/engine/native/addon/probe-addon.ts', import.meta.url));
const probe = [process.execPath, '--import', import.meta.resolve('tsx'), PROBE];
const { signal } = new AbortController();

let engine: InstalledEngine;
let root = '';
before(async () => {
  const found = await findInstalledEngine(exmixHome());
  assertInvariant(found !== undefined, `these tests need a native engine in ${exmixHome()}: exmix engine install`);
  engine = found;
  // Beside the engine: hard links do not cross file systems.
  root = mkdtempSync(join(dirname(engine.folder), '.test-'));
});
after(() => rmSync(root, { recursive: true, force: true }));

const tryEngine = (change: Partial<Parameters<typeof selfTest>[0]> = {}) =>
  selfTest({
    addonPath: engine.addonPath,
    sessionAddonPath: engine.sessionAddonPath,
    flavour: engine.flavour,
    expectedVersion: engine.tensorflowVersion,
    probe,
    environment: process.env,
    signal,
    ...change,
  });

test('every byte of the engine equals the manifest', async () => {
  const folders = await listInstalledEngines(exmixHome(), 'hashes');
  assert.deepEqual(folders.find(({ id }) => id === engine.id)?.problems, []);
});

test('it loads, has the version of its manifest, and multiplies like plain JavaScript', async () => {
  const { version, worstError } = await tryEngine();
  assert.equal(version, engine.tensorflowVersion);
  assert.ok(worstError > 0 && worstError < 1e-6, `error ${worstError}`);
});

test('a cuda engine uses the GPU of the machine; without one it reports why not', async (context) => {
  if (engine.flavour === 'cpu') {
    context.skip('needs an engine of flavour cuda: exmix engine install --flavour cuda');
    return;
  }
  const { isUsingGpu, gpuProblems } = await tryEngine();
  assert.equal(isUsingGpu, readHost().hasNvidiaDriver);
  if (!isUsingGpu) assert.match(gpuProblems.join('\n'), /cuInit|CUDA/u);
});

test('a library of another version is rejected', async () => {
  await assert.rejects(tryEngine({ expectedVersion: '2.15.1' }), {
    code: 'ENGINE_INSTALL_FAILED',
    message: new RegExp(`expected TensorFlow 2\\.15\\.1, the library is ${engine.tensorflowVersion}`, 'u'),
  });
});

for (const [bytes, pattern] of [
  [100, /ENGINE_UNAVAILABLE: .*cannot be loaded/u],
  [4096, /signal SIGBUS: a library is truncated/u],
] as const)
  test(`an addon truncated to ${bytes} B is rejected, even if it crashes its process`, async () => {
    const addonPath = join(root, String(bytes), 'napi-v8/tfjs_binding.node');
    mkdirSync(dirname(addonPath), { recursive: true });
    copyFileSync(engine.addonPath, addonPath);
    truncateSync(addonPath, bytes);
    await assert.rejects(tryEngine({ addonPath }), { code: 'ENGINE_INSTALL_FAILED', message: pattern });
  });

test('a new recipe is built from the installed libraries, with a real compiler and self-test, without pip', async () => {
  const home = join(root, 'home');
  const oldId = `${engine.flavour}-${engine.tensorflowVersion}-000000000000`;
  const old = join(enginesFolder(home), oldId);
  for (const { path } of engine.manifest.files) {
    mkdirSync(dirname(join(old, path)), { recursive: true });
    linkSync(join(engine.folder, path), join(old, path));
  }
  writeFileSync(join(old, 'engine.json'), JSON.stringify({ ...engine.manifest, id: oldId, recipe: '0'.repeat(64) }));
  const lines: string[] = [];
  const components: InstallComponents = {
    host: readHost(),
    freeBytes,
    environment: process.env,
    probe,
    now: () => new Date(0).toISOString(),
    onLine: (text) => lines.push(text),
    onProgress: () => undefined,
    signal,
  };
  const init = { home, flavour: engine.flavour, version: engine.tensorflowVersion, wheels: [] };
  const outcome = await installEngine(init, components);
  assert.ok(
    lines.some((line) => line.startsWith(`reusing the libraries of ${oldId}`)),
    lines.join('\n'),
  );
  assert.equal(outcome.engine.manifest.recipe.length, 64);
  assert.equal(outcome.selfTest?.version, engine.tensorflowVersion);
  assert.ok(existsSync(outcome.engine.sessionAddonPath));
  // The addon finds its libraries by a path relative to itself, because its folder was renamed.
  assert.ok(readFileSync(outcome.engine.addonPath).includes('$ORIGIN/../../deps/lib'));
});
