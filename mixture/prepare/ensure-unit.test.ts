import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { createSourceAccess } from '../sources/source-access.ts';
import type { Mixture } from '../tasks/task.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { ensureUnit, type UnitContext, type UnitOrder } from './ensure-unit.ts';
import { planTasks } from './plan-tasks.ts';
import { hashPreprocessor, listPreparables } from './preparable-task.ts';
import { prepareMixture } from './prepare-mixture.ts';
import { removeUnit } from './unit-folder.ts';
import { writeSmallMixture } from './small-mixture.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-unit-'));
after(() => rmSync(root, { recursive: true }));
let numFolders = 0;
const newFolder = () => join(root, String(numFolders++));
const featureLengths = { inputs: 24, targets: 12 };

/** The first unit of the task `plain`, with everything that is needed to make it in a new folder. */
async function firstUnit(mixture: Mixture = writeSmallMixture(newFolder())): Promise<{
  order: UnitOrder;
  context: UnitContext;
  taskFolder: string;
}> {
  const outDir = newFolder();
  const access = createSourceAccess({ cacheFolder: join(root, 'cache') });
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const preparables = listPreparables(mixture, featureLengths);
  const [plan] = await planTasks(preparables.slice(0, 1), {
    outDir,
    access,
    tokenizerHash: tokenizer.hash,
    featureLengths,
    unitBytes: 1 << 20,
    shardBytes: 1024,
    refresh: false,
    keepPlans: false,
  });
  const { name, source, units, identityHash } = plan!;
  const taskFolder = join(outDir, name);
  mkdirSync(taskFolder, { recursive: true });
  return {
    taskFolder,
    order: {
      task: name,
      number: 0,
      identity: identityHash,
      preprocessor: hashPreprocessor(preparables[0]!),
      mode: 'make',
      hashes: true,
      source,
      unit: units[0]!,
    },
    context: {
      outDir,
      tokenizer,
      featureLengths,
      shardBytes: 1024,
      access,
      preparableOf: (task) => preparables.find((preparable) => preparable.task.name === task),
    },
  };
}

describe('a unit', () => {
  test('is made once, then kept; a check never makes it', async () => {
    const { order, context, taskFolder } = await firstUnit();
    assert.equal((await ensureUnit({ ...order, mode: 'check' }, context)).outcome, 'missing');
    assert.deepEqual(readdirSync(taskFolder), []);
    assert.equal((await ensureUnit(order, context)).outcome, 'made');
    assert.equal((await ensureUnit(order, context)).outcome, 'kept');
    assert.equal((await ensureUnit({ ...order, mode: 'check' }, context)).outcome, 'kept');
    assert.deepEqual(readdirSync(taskFolder), ['unit-00000']);
  });

  test('is made again with the same bytes if any file is damaged', async () => {
    const { order, context, taskFolder } = await firstUnit();
    await ensureUnit(order, context);
    const folder = join(taskFolder, 'unit-00000');
    const files = readdirSync(folder);
    assert.deepEqual(files.slice(0, 3).concat(files.at(-1)!), [
      'shard-00000.crc',
      'shard-00000.index',
      'shard-00000.tokens',
      'unit.json',
    ]);
    for (const file of files) {
      const before = readFileSync(join(folder, file));
      const flipped = Buffer.from(before);
      flipped[Math.floor(flipped.length / 2)]! ^= 1;
      for (const damage of [
        () => writeFileSync(join(folder, file), flipped),
        () => appendFileSync(join(folder, file), 'x'),
        () => rmSync(join(folder, file)),
      ]) {
        damage();
        const again = await ensureUnit(order, context);
        assert.equal(again.outcome, 'made', file);
        assert.deepEqual(readFileSync(join(folder, file)), before, file);
      }
    }
  });

  test('of another identity is replaced; removal spares a good unit that another process has published', async () => {
    const { order, context, taskFolder } = await firstUnit();
    const old = await ensureUnit({ ...order, identity: 'f'.repeat(64) }, context);
    assert.equal(old.outcome, 'made');
    const now = await ensureUnit(order, context);
    assert.equal(now.outcome, 'made');
    assert.match(now.reason ?? '', /made from another source or other settings/);
    await removeUnit(taskFolder, order, 'stale'); // as if it had been stale before
    assert.equal((await ensureUnit({ ...order, mode: 'check' }, context)).outcome, 'kept');
    assert.deepEqual(readdirSync(taskFolder), ['unit-00000']);
  });

  test('is refused if its task has changed in the mixture file', async () => {
    const { order, context } = await firstUnit();
    await assert.rejects(ensureUnit({ ...order, preprocessor: 'another' }, context), {
      code: 'CONFIG_INVALID',
      message: /task plain: the mixture file changed while/,
    });
  });

  for (const [system, code] of [
    ['ENOSPC', 'DISK_FULL'],
    ['EDQUOT', 'DISK_FULL'],
    ['EIO', 'PATH_UNUSABLE'],
  ] as const)
    test(`fails with ${code} if its disk fails with ${system} halfway, and leaves nothing`, async () => {
      const { order, context, taskFolder } = await firstUnit();
      let numFiles = 0;
      const openFile: UnitContext['openFile'] = async (path) => {
        const file = await open(path, 'wx');
        if (++numFiles < 3) return file;
        return {
          sync: () => file.sync(),
          close: () => file.close(),
          write: () => Promise.reject(Object.assign(new Error('fake'), { code: system })),
        };
      };
      await assert.rejects(ensureUnit(order, { ...context, openFile }), { code, message: /shard-0000\d\./ });
      assert.equal(numFiles, 3);
      assert.deepEqual(readdirSync(taskFolder), []);
    });
});

describe('a disk that becomes full while preparing', () => {
  test('stops it with DISK_FULL; finished units stay, and are kept when there is space again', async () => {
    const mixture = writeSmallMixture(newFolder());
    const outDir = newFolder();
    const options = { mixture, outDir, featureLengths, shardBytes: 1024, unitBytes: 2000 };
    let numFiles = 0;
    const full = await prepareMixture({
      ...options,
      openFile: (path) =>
        ++numFiles > 20 ? Promise.reject(Object.assign(new Error('fake'), { code: 'ENOSPC' })) : open(path, 'wx'),
    }).then(
      () => undefined,
      (error: unknown) => error,
    );
    assert.ok(full instanceof Error && 'code' in full && full.code === 'DISK_FULL', String(full));
    const unitsOf = () =>
      readdirSync(outDir, { recursive: true, encoding: 'utf8' }).filter((path) => /unit-\d+$/.test(path)).length;
    const finished = unitsOf();
    assert.ok(finished > 0, 'units are finished');
    assert.ok(!existsSync(join(outDir, 'mixture.json')));
    const { hash, tasks } = await prepareMixture(options);
    assert.equal(
      tasks.reduce((sum, { unitsKept }) => sum + unitsKept, 0),
      finished,
    );
    const undisturbed = newFolder();
    assert.equal((await prepareMixture({ ...options, outDir: undisturbed })).hash, hash);
    assert.deepEqual(listing(outDir), listing(undisturbed));
  });
});

function listing(folder: string): [string, string][] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort()
    .map((path) => [path.slice(folder.length), readFileSync(path, 'latin1')]);
}
