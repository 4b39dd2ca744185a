import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RandomStream } from '../../shared/random.ts';
import { Arena, planArena } from './arena.ts';
import { planBuckets } from './bucket-plan.ts';
import { generateKernels } from './generate-kernels.ts';
import { bindKernels } from './kernels.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';

const memory = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
const kernels = bindKernels(memory);

/** Fills `numFloats` at a byte address with floats of many magnitudes. */
function fill(address: number, numFloats: number, seed: number): Float32Array {
  const random = new RandomStream([seed]);
  const floats = new Float32Array(memory.buffer, address, numFloats);
  for (let i = 0; i < numFloats; i++) floats[i] = (random.nextUint32() | 0) * 2 ** (random.nextBelow(40) - 50);
  return floats;
}

describe('kernels', () => {
  test('the committed module is the assembled kernels.wat', async () => {
    const committed = readFileSync(new URL('kernels-wasm.ts', import.meta.url), 'utf8');
    assert.equal(committed, await generateKernels(), 'run: node --import tsx worker/collective/generate-kernels.ts');
  });

  test('add2 and add4 add in float32 in the stated order, also onto an operand, and touch nothing else', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.nat(), fc.nat(4), (lines, seed, place) => {
        const n = lines * 16;
        const bytes = n * 4;
        const at = [1024, 12288, 24576, 49152];
        const [a, b, c, d] = at.map((address, i) => Float32Array.from(fill(address, n, seed + i)));
        const target = place === 4 ? 65536 : at[place]!;
        const after = new Float32Array(memory.buffer, target + bytes, 16).fill(7);
        kernels.add4(target, at[0]!, at[1]!, at[2]!, at[3]!, bytes);
        const sum4 = new Float32Array(memory.buffer, target, n);
        for (let i = 0; i < n; i++)
          assert.ok(Object.is(sum4[i], Math.fround(Math.fround(a![i]! + b![i]!) + Math.fround(c![i]! + d![i]!))));
        new Float32Array(memory.buffer, at[0], n).set(a!);
        new Float32Array(memory.buffer, at[1], n).set(b!);
        const target2 = place < 2 ? at[place]! : 65536;
        kernels.add2(target2, at[0]!, at[1]!, bytes);
        const sum2 = new Float32Array(memory.buffer, target2, n);
        for (let i = 0; i < n; i++) assert.ok(Object.is(sum2[i], Math.fround(a![i]! + b![i]!)));
        assert.ok(after.every((x) => x === 7));
      }),
      { numRuns: 50 },
    );
  });

  test('sumOfSquares has the stated order of additions in float64', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.nat(), (lines, seed) => {
        const floats = fill(1024, lines * 16, seed);
        const s = new Float64Array(8);
        floats.forEach((x, i) => (s[i % 8]! += x * x));
        const expected = s[0]! + s[1]! + (s[2]! + s[3]!) + (s[4]! + s[5]! + (s[6]! + s[7]!));
        assert.ok(Object.is(kernels.sumOfSquares(1024, lines * 64), expected));
      }),
      { numRuns: 50 },
    );
  });

  test('findNonFinite finds the 16-byte group of the first NaN or infinity, and nothing among finite floats', () => {
    const floats = fill(1024, 64, 1);
    floats[9] = 3.4028234663852886e38;
    assert.equal(kernels.findNonFinite(1024, 256), null);
    assert.ok(Number.isFinite(kernels.sumOfSquares(1024, 256)), 'the largest float32 squared is finite in float64');
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      floats[50] = bad;
      assert.equal(kernels.findNonFinite(1024, 256), 1024 + 48 * 4);
      assert.ok(!Number.isFinite(kernels.sumOfSquares(1024, 256)));
      floats[50] = 0;
    }
  });
});

describe('arena', () => {
  const plan = planBuckets([{ name: 'w', numElements: 2 ** 20 }], 2 ** 20);

  test('slots and receive places do not overlap and lie inside the memory', () => {
    const laneTree = planLaneTree(8, assignLanes(8, 3).runs);
    const arena = new Arena(planArena({ plan, laneTree, rank: 1, frameBytes: 4096, window: [3, 1, 2] }));
    const places: [number, number][] = [];
    for (let slot = 0; slot < laneTree.folds[1]!.numSlots; slot++)
      places.push([arena.slotAddress(slot, 0), plan.totalBytes]);
    for (const peer of [0, 2])
      for (let ordinal = 0; ordinal < arena.layout.windows[peer]!; ordinal++)
        for (let node = 0; node < laneTree.folds[peer]!.cover.length; node++)
          places.push([arena.receiveAddress(peer, ordinal, node), 4096]);
    places.sort(([a], [b]) => a - b);
    places.forEach(([address, length], i) => {
      assert.equal(address % 64, 0);
      assert.ok(address >= 65536);
      assert.ok(address + length <= (places[i + 1]?.[0] ?? arena.memory.buffer.byteLength));
    });
    assert.equal(arena.receiveAddress(0, 3, 0), arena.receiveAddress(0, 0, 0), 'the window wraps');
    assert.equal(arena.receiveAddress(2, 2, 0), arena.receiveAddress(2, 0, 0), 'and another one elsewhere');
  });

  test('more than 4 GiB is CONFIG_INVALID and says what to do', () => {
    const large = planBuckets([{ name: 'w', numElements: 250_000_000 }], 2 ** 25);
    assert.throws(
      () =>
        planArena({
          plan: large,
          laneTree: planLaneTree(16, [{ first: 0, end: 16 }]),
          rank: 0,
          frameBytes: 2 ** 20,
          window: 8,
        }),
      (error: Error & { code?: string }) =>
        error.code === 'CONFIG_INVALID' && error.message.includes('5 lane partials × 0.93 GiB'),
    );
  });

  test('a second arena over the memory sees the same bytes; a memory that is too small is refused', () => {
    const laneTree = planLaneTree(1, [{ first: 0, end: 1 }]);
    const arena = new Arena(planArena({ plan, laneTree, rank: 0, frameBytes: 4096, window: 1 }));
    const other = new Arena(arena.layout, arena.memory);
    arena.floats(0, 64, 4)[1] = 42;
    assert.equal(other.floats(0, 68, 1)[0], 42);
    assert.throws(() => new Arena({ ...arena.layout, totalBytes: 2 ** 31 }, arena.memory), { code: 'INTERNAL' });
    assert.throws(() => planArena({ plan, laneTree, rank: 1, frameBytes: 4096, window: 1 }), {
      code: 'CONFIG_INVALID',
    });
  });
});
