import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { isKnownModule, readModuleFile, rememberModules } from './known-modules.ts';
import { loadMixture } from './load-mixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-known-modules-'));
after(() => rmSync(root, { recursive: true }));

let number = 0;

/** A new folder with these files. */
function makeFolder(files: Readonly<Record<string, string>>): string {
  const folder = join(root, String(number++));
  mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

const ALONE =
  "import { defineTask } from 'exmix';\nimport { join } from 'node:path';\nexport default defineTask(() => []);\n";

describe('a known module', () => {
  test('is known after it was remembered, not before, and not in another home', async () => {
    const home = makeFolder({});
    const file = readModuleFile(join(makeFolder({ 'a.ts': ALONE }), 'a.ts'));
    assert.equal(isKnownModule(file, home), false);
    await rememberModules([file], home);
    assert.equal(isKnownModule(file, home), true);
    assert.equal(isKnownModule(file, makeFolder({})), false);
  });

  test('is no longer known when a byte of it has changed', async () => {
    const home = makeFolder({});
    const folder = makeFolder({ 'a.ts': ALONE });
    await rememberModules([readModuleFile(join(folder, 'a.ts'))], home);
    writeFileSync(join(folder, 'a.ts'), `${ALONE} `);
    assert.equal(isKnownModule(readModuleFile(join(folder, 'a.ts')), home), false);
  });

  test('that imports only exmix and Node is known at any place', async () => {
    const home = makeFolder({});
    await rememberModules([readModuleFile(join(makeFolder({ 'a.ts': ALONE }), 'a.ts'))], home);
    assert.equal(isKnownModule(readModuleFile(join(makeFolder({ 'b.ts': ALONE }), 'b.ts')), home), true);
  });

  for (const [what, source] of [
    ['imports a file', "import { x } from './x.ts';\n"],
    ['imports a file for its effects', "import './x.ts';\n"],
    ['imports a package', "import x from 'x';\n"],
    ['imports exmix and a file on one line', "import { defineTask } from 'exmix'; import './x.ts';\n"],
    ['imports over two lines', "import {\n  x,\n} from './x.ts';\n"],
    ['exports from a file', "export * from './x.ts';\n"],
    ['requires a file', "const x = require('./x.ts');\n"],
    ['imports at run time', "export default async () => import('./x.ts');\n"],
    ['makes a require', "import { createRequire } from 'node:module';\n"],
    ['runs code of text', "import { runInThisContext } from 'node:vm';\n"],
    ['writes a keyword with an escape', "const x = req\\u0075ire('./x.ts');\n"],
  ] as const)
    test(`that ${what} is known only at its path`, async () => {
      const home = makeFolder({});
      const [here, there] = [makeFolder({ 'a.ts': source }), makeFolder({ 'a.ts': source })];
      await rememberModules([readModuleFile(join(here, 'a.ts'))], home);
      assert.equal(isKnownModule(readModuleFile(join(here, 'a.ts')), home), true);
      assert.equal(isKnownModule(readModuleFile(join(there, 'a.ts')), home), false);
      const link = join(root, `link-${number++}`);
      symlinkSync(here, link);
      assert.equal(isKnownModule(readModuleFile(join(link, 'a.ts')), home), true, 'another path of the same file');
    });

  test('must be a regular file of bounded size', () => {
    assert.throws(() => readModuleFile('/dev/zero'), { code: 'PATH_UNUSABLE' });
    assert.throws(() => readModuleFile(join(root, 'nothing.ts')), { code: 'PATH_UNUSABLE' });
  });
});

describe('a mixture that a stored config names', () => {
  const before = process.env['EXMIX_HOME'];
  const RAN = 'exmixStrangerRan';
  /** Leaves a mark when it runs. */
  const EVIL = `globalThis.${RAN} = true;\nexport default [];\n`;
  const MIXTURE = 'name: mine\ntokenizer: spiece.model\ntasks:\n  - module: ./a.ts\n  - module: ./b.ts\n';

  beforeEach(() => {
    process.env['EXMIX_HOME'] = makeFolder({});
    Reflect.deleteProperty(globalThis, RAN);
  });
  afterEach(() => {
    if (before === undefined) delete process.env['EXMIX_HOME'];
    else process.env['EXMIX_HOME'] = before;
  });

  const hasRun = (): boolean => RAN in globalThis;

  test('is refused without running anything; the error names all modules, the mixture and the config', () => {
    const folder = makeFolder({ 'mixture.yaml': MIXTURE, 'a.ts': EVIL, 'b.ts': EVIL });
    const path = join(folder, 'mixture.yaml');
    assert.throws(
      () => loadMixture(path, { namedBy: '/stranger/run.json' }),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'MODULE_NOT_TRUSTED');
        for (const part of [
          '/stranger/run.json',
          path,
          join(folder, 'a.ts'),
          join(folder, 'b.ts'),
          '--trust-modules',
          '--set mixture.path=',
        ])
          assert.ok(error.message.includes(part), `${part} in: ${error.message}`);
        return true;
      },
    );
    assert.equal(hasRun(), false);
  });

  test('is refused before other problems of the file run a module', () => {
    const folder = makeFolder({ 'mixture.yaml': `${MIXTURE}unknownKey: 1\n`, 'a.ts': EVIL, 'b.ts': EVIL });
    assert.throws(() => loadMixture(join(folder, 'mixture.yaml'), { namedBy: 'run.json' }), {
      code: 'MODULE_NOT_TRUSTED',
    });
    assert.equal(hasRun(), false);
  });

  test('is refused if one module is known and another is not', async () => {
    const folder = makeFolder({ 'mixture.yaml': MIXTURE, 'a.ts': 'export default [];\n', 'b.ts': EVIL });
    await rememberModules([readModuleFile(join(folder, 'a.ts'))]);
    assert.throws(
      () => loadMixture(join(folder, 'mixture.yaml'), { namedBy: 'run.json' }),
      (error: Error) => {
        assert.ok(!error.message.includes(join(folder, 'a.ts')));
        return error.message.includes(join(folder, 'b.ts'));
      },
    );
    assert.equal(hasRun(), false);
  });

  test('is loaded by a user who names it himself, and then by a config that names it', async () => {
    const task = `export default { name: 't', family: 'f', metrics: [], source: { kind: 'files', format: 'text', quotes: true, files: [{ location: '/x', name: 'x' }] }, preprocessor: { identity: {}, fields: [], apply: () => ({ ok: true, examples: [] }) } };\n`;
    const folder = makeFolder({ 'mixture.yaml': MIXTURE.replace('  - module: ./b.ts\n', ''), 'a.ts': task });
    const path = join(folder, 'mixture.yaml');
    assert.throws(() => loadMixture(path, { namedBy: 'run.json' }), { code: 'MODULE_NOT_TRUSTED' });
    const mixture = loadMixture(path);
    assert.deepEqual(
      mixture.tasks.map(({ name }) => name),
      ['t'],
    );
    await rememberModules(mixture.modules ?? []);
    assert.deepEqual(
      loadMixture(path, { namedBy: 'run.json' }).tasks.map(({ name }) => name),
      ['t'],
    );
    const copy = makeFolder({});
    cpSync(folder, copy, { recursive: true });
    assert.equal(
      loadMixture(join(copy, 'mixture.yaml'), { namedBy: 'run.json' }).tasks.length,
      1,
      'the same bytes elsewhere',
    );
  });

  test('without modules is loaded', () => {
    const folder = makeFolder({
      'mixture.yaml':
        'name: mine\ntokenizer: spiece.model\ndenoising: { name: d, source: { path: t.txt, format: text } }\n',
    });
    assert.equal(loadMixture(join(folder, 'mixture.yaml'), { namedBy: 'run.json' }).denoising?.name, 'd');
  });

  test('a module that brings its own package exmix gets ours', () => {
    const folder = makeFolder({
      'mixture.yaml': MIXTURE.replace('  - module: ./b.ts\n', ''),
      'a.ts': "import { defineTask } from 'exmix';\nexport default defineTask([]);\n",
    });
    mkdirSync(join(folder, 'node_modules', 'exmix'), { recursive: true });
    writeFileSync(join(folder, 'node_modules', 'exmix', 'index.js'), EVIL);
    assert.throws(() => loadMixture(join(folder, 'mixture.yaml')), {
      code: 'CONFIG_INVALID',
      message: /default export must be/u,
    });
    assert.equal(hasRun(), false);
    assert.ok(existsSync(join(folder, 'node_modules')));
  });
});
