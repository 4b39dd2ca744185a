import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { PARAMETERS, PLAN, randomTensors, SLOTS } from '../../shared/checkpoint/checkpoint.fixture.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { asFloat32, readSafetensors } from '../../shared/safetensors.ts';
import { TensorSnapshot } from './snapshot.ts';
import { writeCheckpointShards } from './write-shards.ts';

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-shards-'));
});
after(() => rm(root, { recursive: true, force: true }));
const newRoot = () => mkdtemp(join(root, 'case-'));

const tensors = { parameters: randomTensors(PARAMETERS, 1), optimizerSlots: randomTensors(SLOTS, 2) };
const base = { rank: 0, worldSize: 1, shardPlan: PLAN, tensors, signal: new AbortController().signal };

describe('writing checkpoint shards', () => {
  test('worlds of 1, 2 and 3 write the same files, byte for byte, and report their files', async () => {
    const worlds: Record<string, string>[] = [];
    for (const worldSize of [1, 2, 3]) {
      const folder = await newRoot();
      const ranks = Array.from({ length: worldSize }, (_, rank) => ({ ...base, folder, rank, worldSize }));
      const written = await Promise.all(ranks.map(writeCheckpointShards));
      for (const { paramDigest } of written) assert.equal(paramDigest, parameterDigest(tensors.parameters));
      const reported = Object.fromEntries(
        written.flatMap(({ files }) => files).map(({ file, sha256 }) => [file, sha256]),
      );
      assert.deepEqual((await readdir(folder)).sort(), PLAN.map(({ file }) => file).sort());
      for (const [file, sha256] of Object.entries(reported))
        assert.equal(
          createHash('sha256')
            .update(await readFile(join(folder, file)))
            .digest('hex'),
          sha256,
        );
      worlds.push(reported);
    }
    assert.deepEqual(worlds[1], worlds[0]);
    assert.deepEqual(worlds[2], worlds[0]);
  });

  test('the files hold the tensors of the plan and the metadata Transformers asks for', async () => {
    const folder = await newRoot();
    await writeCheckpointShards({ ...base, folder });
    for (const { file, kind, tensors: specs } of PLAN) {
      const read = await readSafetensors(join(folder, file));
      assert.deepEqual(read.metadata, { format: 'pt' });
      assert.deepEqual(
        [...read.tensors.keys()].sort(),
        specs.map(({ name }) => name),
      );
      const source = kind === 'model' ? tensors.parameters : tensors.optimizerSlots;
      for (const [name, tensor] of read.tensors)
        assert.deepEqual(asFloat32(tensor), Float32Array.from(source.get(name)!));
    }
  });

  test('a folder that is not there is PATH_UNUSABLE, with its code across the thread', async () => {
    const folder = join(root, 'nowhere');
    await assert.rejects(writeCheckpointShards({ ...base, folder }), { code: 'PATH_UNUSABLE', message: /ENOENT/ });
  });

  test('an abort before or during the write is ABORTED', async () => {
    const folder = await newRoot();
    await assert.rejects(writeCheckpointShards({ ...base, folder, signal: AbortSignal.abort() }), { code: 'ABORTED' });
    assert.deepEqual(await readdir(folder), []);
    const stop = new AbortController();
    const writing = writeCheckpointShards({ ...base, folder, signal: stop.signal });
    stop.abort();
    await assert.rejects(writing, { code: 'ABORTED' });
  });

  test('a tensor that is missing or not in shared memory is refused', async () => {
    const folder = await newRoot();
    const optimizerSlots = new Map([...tensors.optimizerSlots].slice(1));
    await assert.rejects(writeCheckpointShards({ ...base, folder, tensors: { ...tensors, optimizerSlots } }), {
      code: 'INTERNAL',
      message: /no tensor shared\.weight\/v to save/,
    });
    const parameters = new Map([...tensors.parameters, ['lm_head.weight', new Float32Array(64)]]);
    await assert.rejects(writeCheckpointShards({ ...base, folder, tensors: { ...tensors, parameters } }), {
      message: /lm_head\.weight to save is not in shared memory/,
    });
  });
});

describe('tensor snapshot', () => {
  test('holds the values of the moment it was filled, in shared memory', () => {
    const live = new Map([...tensors.parameters].map(([name, values]) => [name, Float32Array.from(values)]));
    const snapshot = new TensorSnapshot(PARAMETERS);
    snapshot.fill((name) => live.get(name)!);
    const digest = parameterDigest(live);
    for (const values of live.values()) values.fill(0);
    assert.equal(parameterDigest(snapshot.tensors), digest);
    for (const values of snapshot.tensors.values()) assert.ok(values.buffer instanceof SharedArrayBuffer);
    assert.throws(() => snapshot.fill(() => new Float32Array(3)), {
      code: 'INTERNAL',
      message: /values expected, 3 found/,
    });
  });
});
