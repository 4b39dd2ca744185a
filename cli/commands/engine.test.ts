/** Output and exit status of `exmix engine`, with an engine installed from a fake wheel of a few hundred bytes. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  FAKE_COMPILER,
  fakeComponents,
  VERSION,
  writeFakeWheel,
  writeTools,
} from '../../deploy/engine/fake-wheel.fixture.ts';
import { installEngine } from '../../deploy/engine/install-engine.ts';
import type { InstalledEngine } from '../../shared/installed-engine.ts';

const EXMIX = join(import.meta.dirname, '..', 'exmix.mjs');
let root = '';
let home = '';
let engine: InstalledEngine;
before(async () => {
  root = mkdtempSync(join(tmpdir(), 'exmix-cli-engine-'));
  home = join(root, 'home');
  const environment = writeTools(join(root, 'bin'), { 'g++': FAKE_COMPILER });
  const init = { home, flavour: 'cpu', version: VERSION, wheels: [writeFakeWheel(root)] } as const;
  ({ engine } = await installEngine(init, fakeComponents(environment)));
});
after(() => rmSync(root, { recursive: true, force: true }));

function exmix(args: readonly string[], exmixHome = home): { status: number | null; stdout: string; stderr: string } {
  const environment = { PATH: join(root, 'nowhere'), EXMIX_HOME: exmixHome };
  return spawnSync(process.execPath, [EXMIX, 'engine', ...args], { encoding: 'utf8', env: environment });
}

describe('exmix engine', { concurrency: false }, () => {
  test('list of an empty home names the command that installs one', () => {
    assert.deepEqual(
      exmix(['list'], join(root, 'empty')).stdout,
      'no engines; install one with: exmix engine install\n',
    );
  });

  test('install of an installed engine exits with 0, without pip or compiler', () => {
    const { status, stdout } = exmix(['install', '--flavour', 'cpu', '--version', VERSION]);
    assert.equal(status, 0);
    assert.match(
      stdout,
      new RegExp(`^already installed: engine ${engine.id} \\(TensorFlow 2\\.21\\.0, cpu\\) in `, 'mu'),
    );
  });

  test('install without its tools exits with 2 and one message', () => {
    const { status, stderr } = exmix(['install', '--flavour', 'cpu'], join(root, 'empty'));
    assert.equal(status, 2);
    assert.match(stderr, /^exmix: PREREQUISITE_MISSING: /u);
  });

  test('install rejects a malformed version and a damaged wheel', () => {
    const version = exmix(['install', '--version', 'latest']);
    assert.equal(version.status, 2);
    assert.match(
      version.stderr,
      /CONFIG_INVALID: --version: expected a version of TensorFlow such as 2\.21\.0, got latest/u,
    );
    writeFileSync(join(root, 'a.whl'), 'x');
    const wheel = exmix(['install', '--wheel', join(root, 'a.whl')]);
    assert.equal(wheel.status, 3);
    assert.match(wheel.stderr, /WHEEL_INVALID: .*a\.whl: not a whole zip file/u);
  });

  test('list prints the engine as a table and as JSON; of a damaged engine, --verify exits with 3', () => {
    assert.match(
      exmix(['list']).stdout,
      new RegExp(`^${engine.id} +cpu +2\\.21\\.0 +\\S+ KiB +2026-11-23 +sound, the default$`, 'mu'),
    );
    const parse = (text: string): unknown => JSON.parse(text);
    const bytes = engine.manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    assert.deepEqual(parse(exmix(['list', '--json', '--verify']).stdout), [
      {
        id: engine.id,
        folder: engine.folder,
        flavour: 'cpu',
        tensorflowVersion: VERSION,
        bytes,
        installedAt: '2026-11-23T08:00:00.000Z',
        isDefault: true,
        isCurrent: true,
        problems: [],
        isOutdated: false,
      },
    ]);
    truncateSync(engine.addonPath, 0);
    const { status, stdout } = exmix(['list', '--verify']);
    assert.equal(status, 3);
    assert.match(stdout, /damaged: lib\/napi-v8\/tfjs_binding\.node: expected 6 B, got 0 B/u);
  });

  test('remove rejects an unknown name with the nearest one, and removes an engine by its id', () => {
    const refused = exmix(['remove', `${engine.id.slice(0, -1)}z`]);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, new RegExp(`NAME_UNKNOWN: .*did you mean ${engine.id}\\?`, 'u'));
    assert.match(exmix(['remove', engine.id]).stdout, new RegExp(`^removed ${engine.id}, `, 'u'));
    assert.match(exmix(['list']).stdout, /^no engines/u);
  });
});
