import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parameterDigest } from './parameter-digest.ts';
import { planCheckpoint, planShards, shardsOfRank, tensorBytes } from './shard-plan.ts';

const specs = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1, maxLength: 6 }),
    shape: fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 3 }),
  }),
  { selector: ({ name }) => name, maxLength: 30 },
);

describe('shard plan', () => {
  test('every tensor is in one shard, in name order, and a shard is over the bound only with a single tensor', () => {
    fc.assert(
      fc.property(specs, fc.integer({ min: 1, max: 4000 }), (tensors, maxShardBytes) => {
        const shards = planShards(tensors, maxShardBytes);
        const names = shards.flat().map(({ name }) => name);
        assert.deepEqual(
          names,
          tensors.map(({ name }) => name).sort((a, b) => (a < b ? -1 : 1)),
        );
        for (const [i, shard] of shards.entries()) {
          const bytes = shard.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
          assert.ok(bytes <= maxShardBytes || shard.length === 1);
          const next = shards[i + 1]?.[0];
          if (next !== undefined)
            assert.ok(bytes + tensorBytes(next) > maxShardBytes, 'the next tensor would have fitted');
        }
      }),
      { numRuns: 200 },
    );
  });

  test('the ranks of any world divide the plan without overlap', () => {
    fc.assert(
      fc.property(specs, specs, fc.integer({ min: 1, max: 9 }), (parameters, optimizerSlots, worldSize) => {
        const plan = planCheckpoint({ parameters, optimizerSlots, maxShardBytes: 200 });
        const written = Array.from({ length: worldSize }, (_, rank) => shardsOfRank(plan, rank, worldSize)).flat();
        assert.deepEqual(written.map(({ file }) => file).sort(), plan.map(({ file }) => file).sort());
        assert.equal(new Set(written).size, plan.length);
      }),
      { numRuns: 100 },
    );
  });

  test('files are named as Transformers names them: one is model.safetensors, several are numbered', () => {
    const parameters = ['a', 'b', 'c'].map((name) => ({ name, shape: [4] }));
    const files = (maxShardBytes: number) =>
      planCheckpoint({ parameters, optimizerSlots: parameters, maxShardBytes }).map(({ file }) => file);
    assert.deepEqual(files(100), ['model.safetensors', 'optimizer-00001-of-00001.safetensors']);
    assert.deepEqual(files(32).slice(0, 2), ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']);
  });

  test('two tensors of one name are refused', () => {
    const tensor = { name: 'a', shape: [1] };
    assert.throws(() => planShards([tensor, tensor], 100), { code: 'INTERNAL', message: /two tensors named a/ });
  });
});

describe('parameter digest', () => {
  test('is SHA-256 over the little-endian float32 bytes in name order, for any order of the map', () => {
    const a = Float32Array.of(1, -2);
    const b = Float32Array.of(0.5);
    const bytes = Buffer.from('0000803f000000c00000003f', 'hex');
    const expected = createHash('sha256').update(bytes).digest('hex');
    assert.equal(
      parameterDigest(
        new Map([
          ['b', b],
          ['a', a],
        ]),
      ),
      expected,
    );
    assert.equal(
      parameterDigest(
        new Map([
          ['a', a],
          ['b', b],
        ]),
      ),
      expected,
    );
    assert.notEqual(
      parameterDigest(
        new Map([
          ['a', b],
          ['b', a],
        ]),
      ),
      expected,
    );
  });

  test('sees the sign of zero and the part of a larger buffer', () => {
    const digest = (values: Float32Array) => parameterDigest(new Map([['x', values]]));
    assert.notEqual(digest(Float32Array.of(0)), digest(Float32Array.of(-0)));
    assert.equal(digest(Float32Array.of(9, 1, 9).subarray(1, 2)), digest(Float32Array.of(1)));
  });
});
