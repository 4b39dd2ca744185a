import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import {
  PARAMETERS,
  PLAN,
  randomTensors,
  runRecord,
  writeFixtureCheckpoint,
  writeShardFiles,
} from '../../shared/checkpoint/checkpoint.fixture.ts';
import { pinCheckpoint } from '../../shared/checkpoint/pin.ts';
import { findLatestCheckpoint, readCheckpoint } from '../../shared/checkpoint/read.ts';
import { systemClock } from '../../shared/clock.ts';
import { createRunFolder, openRunFolder } from '../run-folder/run-folder.ts';
import { pruneCheckpoints } from './retention.ts';
import { makeWritingFolder, publishCheckpoint, type PublishInit } from './publish.ts';

const repository = join(import.meta.dirname, '..', '..');
let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-publish-'));
});
after(() => rm(root, { recursive: true, force: true }));
const newRoot = () => mkdtemp(join(root, 'case-'));

/** Everything publishing needs, with shards written whose values follow from `seed`. */
async function prepare(checkpoints: string, step: number, seed = step): Promise<PublishInit> {
  const writingFolder = await makeWritingFolder(checkpoints, { step, epoch: 1, generation: 2 });
  const files = await writeShardFiles(writingFolder, seed);
  const run = runRecord(step, randomTensors(PARAMETERS, seed));
  const { paramDigest } = run;
  const tokenizer = join(root, 'spiece.model');
  await writeFile(tokenizer, 'pieces');
  return {
    writingFolder,
    finalFolder: join(checkpoints, `step-${step}`),
    shardPlan: PLAN,
    workerFiles: [
      { workerId: 'w0', files: files.filter((_, i) => i % 2 === 0), paramDigest },
      { workerId: 'w1', files: files.filter((_, i) => i % 2 === 1), paramDigest },
    ],
    hfConfig: { model_type: 't5', decoder_start_token_id: 0, eos_token_id: 1, pad_token_id: 0 },
    tokenizerFiles: [
      { name: 'spiece.model', source: tokenizer },
      { name: 'tokenizer_config.json', text: '{}\n' },
    ],
    run,
    signal: new AbortController().signal,
  };
}

describe('publishing a checkpoint', () => {
  test('makes a whole folder appear: shards, index, configuration, tokenizer, record, manifest', async () => {
    const checkpoints = await newRoot();
    const init = await prepare(checkpoints, 12);
    const published = await publishCheckpoint(init);
    assert.deepEqual(await readdir(checkpoints), ['step-12']);
    assert.deepEqual((await readdir(published.path)).sort(), [
      'config.json',
      'generation_config.json',
      'manifest.json',
      ...PLAN.map(({ file }) => file).slice(0, -2),
      'model.safetensors.index.json',
      ...PLAN.map(({ file }) => file).slice(-2),
      'run.json',
      'spiece.model',
      'tokenizer_config.json',
    ]);
    const checkpoint = await readCheckpoint(published.path);
    assert.deepEqual(checkpoint.run, init.run);
    assert.deepEqual(await checkpoint.loadParameters(PARAMETERS), plain(randomTensors(PARAMETERS, 12)));
    const index = JSON.parse(await readFile(join(published.path, 'model.safetensors.index.json'), 'utf8')) as {
      weight_map: Record<string, string>;
    };
    assert.deepEqual(Object.keys(index.weight_map).sort(), PARAMETERS.map(({ name }) => name).sort());
  });

  test('published again with the same parameters it stays as it is; damaged it is replaced; another one is refused', async () => {
    const checkpoints = await newRoot();
    const { path } = await publishCheckpoint(await prepare(checkpoints, 12));
    await publishCheckpoint(await prepare(checkpoints, 12));
    assert.deepEqual(await readdir(checkpoints), ['step-12']);
    await assert.rejects(publishCheckpoint(await prepare(checkpoints, 12, 99)), { code: 'CHECKPOINT_MISMATCH' });
    await readCheckpoint(path);
    await unlink(join(path, 'config.json'));
    await publishCheckpoint(await prepare(checkpoints, 12));
    await readCheckpoint(path);
    assert.deepEqual(await readdir(checkpoints), ['step-12']);
  });

  const failures: readonly (readonly [string, (init: PublishInit) => PublishInit | Promise<PublishInit>, object])[] = [
    [
      'a worker that holds other parameters',
      (init) => ({
        ...init,
        workerFiles: init.workerFiles.map((one, i) => (i === 1 ? { ...one, paramDigest: 'ff' } : one)),
      }),
      { code: 'STATE_DIVERGED', message: /worker w1 holds ff/ },
    ],
    [
      'a shard that nobody reported',
      (init) => ({ ...init, workerFiles: init.workerFiles.slice(0, 1) }),
      { code: 'INTERNAL', message: /no worker reported/ },
    ],
    [
      'a shard that is shorter than reported',
      async (init) => {
        await writeFile(join(init.writingFolder, PLAN[0]!.file), 'short');
        return init;
      },
      { code: 'PATH_UNUSABLE', message: /5 B are there/, workerId: 'w0' },
    ],
    [
      'a shard that its writer has written elsewhere',
      async (init) => {
        await rm(join(init.writingFolder, init.workerFiles[1]!.files[0]!.file));
        return init;
      },
      { code: 'PATH_UNUSABLE', message: /worker w1 wrote \d+ B, no file is there/, workerId: 'w1' },
    ],
    [
      'a file that nobody reported',
      async (init) => {
        await writeFile(join(init.writingFolder, 'core.123'), '');
        return init;
      },
      { code: 'INTERNAL', message: /core\.123/ },
    ],
    [
      'a tokenizer file that is missing',
      (init) => ({ ...init, tokenizerFiles: [{ name: 'spiece.model', source: '/nowhere/spiece.model' }] }),
      { code: 'PATH_UNUSABLE', message: /\/nowhere\/spiece\.model/ },
    ],
    ['an abort', (init) => ({ ...init, signal: AbortSignal.abort() }), { code: 'ABORTED' }],
  ];
  for (const [name, change, error] of failures)
    test(`${name} publishes nothing and leaves the older checkpoint`, async () => {
      const checkpoints = await newRoot();
      const older = await writeFixtureCheckpoint(checkpoints, 5);
      await assert.rejects(publishCheckpoint(await change(await prepare(checkpoints, 12))), error);
      assert.deepEqual(await readdir(checkpoints), ['step-5']);
      await readCheckpoint(older);
    });
});

describe('pruning', () => {
  test('deletes what retention does not keep; a damaged one is neither counted nor touched', async () => {
    const checkpoints = await newRoot();
    for (const step of [1, 2, 3, 4, 5]) await writeFixtureCheckpoint(checkpoints, step);
    await unlink(join(checkpoints, 'step-5', 'run.json'));
    const removed = await pruneCheckpoints(
      checkpoints,
      { keepLast: 2 },
      new Map([[1, 'this run was resumed from it']]),
    );
    assert.deepEqual(removed, [{ step: 2, reason: 'older than the newest 2' }]);
    assert.deepEqual((await readdir(checkpoints)).sort(), ['step-1', 'step-3', 'step-4', 'step-5']);
  });

  test('a removed checkpoint stays readable for a reader that pinned it, and the pin of an ended process is removed', async () => {
    const checkpoints = await newRoot();
    for (const step of [1, 2]) await writeFixtureCheckpoint(checkpoints, step);
    const pin = await pinCheckpoint(join(checkpoints, 'step-1'));
    assert.ok(pin);
    const ended = spawnSync(process.execPath, ['--eval', 'console.log(process.pid)'], { encoding: 'utf8' });
    const pinOfEnded = basename(dirname(pin.folder)).replace(`-${process.pid}-`, `-${ended.stdout.trim()}-`);
    await mkdir(join(checkpoints, pinOfEnded));
    const removed = await pruneCheckpoints(checkpoints, { keepLast: 1 }, new Map());
    assert.deepEqual(removed, [{ step: 1, reason: 'older than the newest 1' }]);
    assert.equal((await readCheckpoint(pin.folder)).run.step, 1);
    assert.ok(!(await readdir(checkpoints)).includes(pinOfEnded));
    await pin.release();
    assert.deepEqual(await readdir(checkpoints), ['step-2']);
  });
});

/** A real process that publishes step 1, 2, 3, … into a folder and says where it is before and after each. */
const PUBLISHER = `
  import { writeShardFiles, runRecord, randomTensors, PARAMETERS, PLAN } from './shared/checkpoint/checkpoint.fixture.ts';
  import { makeWritingFolder, publishCheckpoint } from './coordinator/checkpoint/publish.ts';
  const checkpoints = process.argv[1];
  for (let step = 1; step <= 500; step++) {
    const writingFolder = await makeWritingFolder(checkpoints, { step, epoch: 1, generation: 1 });
    console.log('writing ' + step);
    const files = await writeShardFiles(writingFolder, step);
    console.log('shards ' + step);
    const run = runRecord(step, randomTensors(PARAMETERS, step));
    await publishCheckpoint({ writingFolder, finalFolder: checkpoints + '/step-' + step, shardPlan: PLAN, run,
      workerFiles: [{ workerId: 'w', files, paramDigest: run.paramDigest }], hfConfig: {}, tokenizerFiles: [],
      signal: new AbortController().signal });
    console.log('published ' + step);
  }`;

describe('a coordinator killed in mid-write', () => {
  for (const moment of ['writing 3', 'shards 3', 'shards 5', 'published 4'])
    test(`at "${moment}": the checkpoint before is the latest and valid, and the next start cleans up`, async () => {
      const lock = { clock: systemClock, signal: new AbortController().signal, onWaiting: () => undefined };
      const run = await createRunFolder({
        runsFolder: await newRoot(),
        name: 'killed',
        lock,
        configText: '',
        requiredBytes: 1,
      });
      await run.lock.release();
      const args = ['--import', 'tsx', '--input-type=module', '-e', PUBLISHER, run.checkpoints];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], cwd: repository });
      const exited = once(child, 'exit') as Promise<[number | null, string | null]>;
      let publishedStep = 0;
      for await (const line of createInterface({ input: child.stdout })) {
        if (line.startsWith('published')) publishedStep = Number(line.split(' ')[1]);
        if (line === moment) child.kill('SIGKILL');
      }
      assert.deepEqual(await exited, [null, 'SIGKILL']);

      const { latest, skipped } = await findLatestCheckpoint(run.folder);
      assert.deepEqual(skipped, []);
      // The rename may have happened without the word of it: one more than was said, never one less.
      assert.ok(latest !== undefined && (latest.step === publishedStep || latest.step === publishedStep + 1));
      const checkpoint = await readCheckpoint(latest.path);
      assert.deepEqual(await checkpoint.loadParameters(PARAMETERS), plain(randomTensors(PARAMETERS, latest.step)));
      const again = await openRunFolder(run.folder, lock, 1);
      await again.lock.release();
      assert.deepEqual(
        (await readdir(run.checkpoints)).filter((name) => name.startsWith('.')),
        [],
      );
    });
});

/** Runs in a small file system of its own: fills it, first by the journal, then by a checkpoint. Prints what happened. */
const FILLER = `
  import { mkdir, rm, writeFile } from 'node:fs/promises';
  import { writeShardFiles, runRecord, randomTensors, writeFixtureCheckpoint, PARAMETERS, PLAN } from './shared/checkpoint/checkpoint.fixture.ts';
  import { findLatestCheckpoint } from './shared/checkpoint/read.ts';
  import { makeWritingFolder, publishCheckpoint } from './coordinator/checkpoint/publish.ts';
  import { Journal, replayJournal } from './coordinator/journal/journal.ts';
  const disk = process.argv[1];
  const code = (work) => work.then(() => 'done', (error) => error.code);
  const { journal } = await Journal.open(disk + '/journal');
  await journal.append({ kind: 'run-opened', epoch: 1, configHash: 'c', seed: 1, mixtureHash: 'm', step: 0 });
  let step = 0;
  let journalCode = 'done';
  while (journalCode === 'done') {
    journalCode = await code(journal.append({ kind: 'step-committed', epoch: 1, generation: 1, step: step + 1,
      cursor: 'x'.repeat(9000), gradDigest: 1, loss: 1 }));
    if (journalCode === 'done') step += 1;
  }
  const again = await code(journal.append({ kind: 'run-finished', epoch: 1, step }));
  await journal.close();
  const replay = await replayJournal(disk + '/journal');
  await rm(disk + '/journal');

  const checkpoints = disk + '/checkpoints';
  await writeFixtureCheckpoint(checkpoints, 1);
  const writingFolder = await makeWritingFolder(checkpoints, { step: 2, epoch: 1, generation: 1 });
  const files = await writeShardFiles(writingFolder, 2);
  for (let i = 0, full = false; !full; i++) full = (await code(writeFile(disk + '/ballast-' + i, 'x'.repeat(4096)))) !== 'done';
  const run = runRecord(2, randomTensors(PARAMETERS, 2));
  const publishCode = await code(publishCheckpoint({ writingFolder, finalFolder: checkpoints + '/step-2', shardPlan: PLAN, run,
    workerFiles: [{ workerId: 'w', files, paramDigest: run.paramDigest }], hfConfig: {}, tokenizerFiles: [],
    signal: new AbortController().signal }));
  const latest = await findLatestCheckpoint(checkpoints);
  console.log(JSON.stringify({ journalCode, again, committed: step, replayed: replay.state.step, torn: replay.torn ?? null,
    publishCode, latest: latest.latest?.step, skipped: latest.skipped.length }));`;

const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;

describe('a full disk', () => {
  test(
    'is DISK_FULL for journal and checkpoint; what was acknowledged or published before stays whole',
    { skip: canMount ? false : 'needs the right to mount a small file system (unshare -m)' },
    async () => {
      const disk = join(await newRoot(), 'disk');
      await mkdir(disk);
      const shell = 'mount -t tmpfs -o size=512k none "$1" && exec "$2" --import tsx --input-type=module -e "$3" "$1"';
      const args = ['-m', 'sh', '-c', shell, 'sh', disk, process.execPath, FILLER];
      const { stdout, stderr, status } = spawnSync('unshare', args, { cwd: repository, encoding: 'utf8' });
      assert.equal(status, 0, stderr);
      const said = JSON.parse(stdout) as Record<string, unknown>;
      assert.ok(Number(said['committed']) > 10);
      assert.deepEqual(said, {
        journalCode: 'DISK_FULL',
        again: 'DISK_FULL',
        committed: said['committed'],
        replayed: said['committed'],
        torn: null,
        publishCode: 'DISK_FULL',
        latest: 1,
        skipped: 0,
      });
    },
  );
});

/** The same values in memory of their own, as they are loaded. */
function plain(tensors: ReadonlyMap<string, Float32Array>): Map<string, Float32Array> {
  return new Map([...tensors].map(([name, values]) => [name, Float32Array.from(values)]));
}
