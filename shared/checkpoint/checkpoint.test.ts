import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { PARAMETERS, PLAN, randomTensors, runRecord, SLOTS, writeFixtureCheckpoint } from './checkpoint.fixture.ts';
import { MANIFEST_FILE, stepOfFolder } from './layout.ts';
import { encodeManifest } from './manifest.ts';
import { findLatestCheckpoint, listCheckpointFolders, readCheckpoint, readRunRecord } from './read.ts';
import { verifyCheckpoint } from './verify.ts';

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-checkpoint-'));
});
after(() => rm(root, { recursive: true, force: true }));
const newRoot = () => mkdtemp(join(root, 'case-'));

/** Flips bits of one byte of a file, runs `check`, puts the byte back. */
async function withFlip(path: string, at: number, mask: number, check: () => Promise<void>): Promise<void> {
  const original = await readFile(path);
  const damaged = Buffer.from(original);
  damaged[at] = damaged[at]! ^ mask;
  await writeFile(path, damaged);
  try {
    await check();
  } finally {
    await writeFile(path, original);
  }
}

describe('reading a checkpoint', () => {
  test('gives the run record and the tensors, bit for bit', async () => {
    const path = await writeFixtureCheckpoint(await newRoot(), 12);
    const checkpoint = await readCheckpoint(path);
    assert.deepEqual(checkpoint.run, runRecord(12, randomTensors(PARAMETERS, 12)));
    const parameters = await checkpoint.loadParameters(PARAMETERS);
    for (const [name, values] of randomTensors(PARAMETERS, 12))
      assert.deepEqual(parameters.get(name), Float32Array.from(values));
    const slots = await checkpoint.loadOptimizerSlots(SLOTS);
    assert.equal(slots.size, SLOTS.length);
    for (const [name, values] of randomTensors(SLOTS, 13)) assert.deepEqual(slots.get(name), Float32Array.from(values));
  });

  test('with a record nested without bound is CHECKPOINT_CORRUPT', async () => {
    const path = await writeFixtureCheckpoint(await newRoot(), 12);
    await writeFile(join(path, 'run.json'), `{"cursor":${'['.repeat(200_000)}${']'.repeat(200_000)}}`);
    await assert.rejects(readRunRecord(path), { code: 'CHECKPOINT_CORRUPT', message: /too many lists and objects/u });
  });

  test('of another model is CHECKPOINT_MISMATCH with every difference', async () => {
    const checkpoint = await readCheckpoint(await writeFixtureCheckpoint(await newRoot(), 3));
    const other = [
      ...PARAMETERS.slice(2),
      { name: 'shared.weight', shape: [4, 16] },
      { name: 'more.weight', shape: [1] },
    ];
    await assert.rejects(checkpoint.loadParameters(other), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'CHECKPOINT_MISMATCH');
      assert.match(error.message, /shared\.weight: expected shape \[4, 16\], found \[16, 4\]/);
      assert.match(
        error.message,
        /q\.weight \[8, 4\] is in model-00001-of-\d+\.safetensors, the run has no such tensor/,
      );
      assert.match(error.message, /more\.weight is missing/);
      return true;
    });
  });

  test('any flipped byte in any file is CHECKPOINT_CORRUPT and names the file', async () => {
    const path = await writeFixtureCheckpoint(await newRoot(), 5);
    const files = await readdir(path);
    assert.ok(files.length === PLAN.length + 3);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        async (file, position, mask) => {
          const target = join(path, file);
          const at = position % (await readFile(target)).length;
          await withFlip(target, at, mask, async () => {
            await assert.rejects(readCheckpoint(path), (error: Error & { code?: string }) => {
              assert.equal(error.code, 'CHECKPOINT_CORRUPT');
              assert.ok(error.message.includes(file), error.message);
              return true;
            });
          });
        },
      ),
      { numRuns: 300 },
    );
    assert.deepEqual((await verifyCheckpoint(path)).problems, []);
  });

  test('a change of any byte of the manifest is detected, white space too', async () => {
    const path = await writeFixtureCheckpoint(await newRoot(), 5);
    const manifest = join(path, MANIFEST_FILE);
    const { length } = await readFile(manifest);
    for (let at = 0; at < length; at++)
      await withFlip(manifest, at, 1 << (at % 8), async () => {
        const { problems } = await verifyCheckpoint(path, { depth: 'size' });
        assert.equal(problems[0]?.file, MANIFEST_FILE, `byte ${at}`);
      });
  });

  const damages: readonly (readonly [string, (path: string) => Promise<unknown>, RegExp])[] = [
    [
      'a truncated file',
      (path) => truncate(join(path, PLAN[0]!.file), 100),
      /model-00001-of-\d+\.safetensors: expected \d+ B, found 100 B/,
    ],
    ['a missing file', (path) => unlink(join(path, 'run.json')), /run\.json: expected \d+ B, found no such file/],
    ['an extra file', (path) => writeFile(join(path, 'notes.txt'), ''), /notes\.txt: expected no such file/],
    ['an extra folder', (path) => mkdir(join(path, 'x')), /x: expected no such file/],
    ['a missing manifest', (path) => unlink(join(path, MANIFEST_FILE)), /never published/],
    ['an empty manifest', (path) => truncate(join(path, MANIFEST_FILE)), /expected JSON/],
    [
      'a manifest that points outside',
      (path) =>
        writeFile(
          join(path, MANIFEST_FILE),
          encodeManifest({ step: 5, files: [{ file: '../x', bytes: 1, sha256: '0'.repeat(64) }] }),
        ),
      /expected a plain file name/,
    ],
  ];
  for (const [name, damage, message] of damages)
    test(`${name} is CHECKPOINT_CORRUPT`, async () => {
      const path = await writeFixtureCheckpoint(await newRoot(), 5);
      await damage(path);
      await assert.rejects(readCheckpoint(path), { code: 'CHECKPOINT_CORRUPT', message });
    });

  test('all problems are listed at once', async () => {
    const path = await writeFixtureCheckpoint(await newRoot(), 5);
    for (const { file } of PLAN) await unlink(join(path, file));
    const { problems } = await verifyCheckpoint(path);
    assert.deepEqual(
      problems.map(({ file, kind }) => [file, kind]).sort(),
      PLAN.map(({ file }) => [file, 'missing']).sort(),
    );
  });

  test('a checkpoint under the name of another step is CHECKPOINT_CORRUPT', async () => {
    const folder = await newRoot();
    await rename(await writeFixtureCheckpoint(folder, 5), join(folder, 'step-6'));
    await assert.rejects(readCheckpoint(join(folder, 'step-6')), {
      code: 'CHECKPOINT_CORRUPT',
      message: /expected step-5/,
    });
  });

  test('no such folder is PATH_UNUSABLE, and an abort is ABORTED', async () => {
    await assert.rejects(readCheckpoint(join(root, 'nowhere')), { code: 'PATH_UNUSABLE' });
    const path = await writeFixtureCheckpoint(await newRoot(), 5);
    await assert.rejects(readCheckpoint(path, AbortSignal.abort()), { code: 'ABORTED' });
  });
});

describe('finding the latest checkpoint', () => {
  test('returns the highest step by number, skips damaged ones with the reason, and ignores unfinished ones', async () => {
    const run = await newRoot();
    const checkpoints = join(run, 'checkpoints');
    for (const step of [9, 10, 100]) await writeFixtureCheckpoint(checkpoints, step);
    await rename(await writeFixtureCheckpoint(checkpoints, 101), join(checkpoints, '.writing-step-000101-e1-g1'));
    await unlink(join(checkpoints, 'step-100', 'run.json'));
    const found = await findLatestCheckpoint(run);
    assert.deepEqual(found.latest, { path: join(checkpoints, 'step-10'), step: 10 });
    assert.equal(found.skipped.length, 1);
    assert.match(found.skipped[0]!.reason, /^run\.json: expected \d+ B, found no such file$/);
    assert.deepEqual(await findLatestCheckpoint(checkpoints), found);
    const steps = (await listCheckpointFolders(run)).map(({ step }) => step);
    assert.deepEqual(steps, [9, 10, 100]);
  });

  test('finds none in an empty folder', async () => {
    assert.deepEqual(await findLatestCheckpoint(await newRoot()), { skipped: [] });
    await assert.rejects(findLatestCheckpoint(join(root, 'nowhere')), { code: 'PATH_UNUSABLE' });
  });

  test('only step-<n> names a checkpoint', () => {
    const steps = [
      'step-0',
      'step-12',
      'step-012',
      'step-',
      'step--1',
      'step-1.5',
      '.writing-step-1',
      'step-99999999999999999',
    ];
    assert.deepEqual(steps.map(stepOfFolder), [0, 12, ...Array.from({ length: 6 }, () => undefined)]);
  });
});
