import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RandomStream } from '../../shared/random.ts';
import { Arena, planArena } from './arena.ts';
import { planBuckets, widenedBytes } from './bucket-plan.ts';
import { generateKernels } from './generate-kernels.ts';
import { bindKernels } from './kernels.ts';
import { roundNaively } from '../collective/lane-gradients.fixture.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';

const memory = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
const kernels = bindKernels(memory, 'float32');
const narrowKernels = bindKernels(memory, 'bfloat16');

/** Fills `numFloats` at a byte address with floats of many magnitudes. */
function fill(address: number, numFloats: number, seed: number): Float32Array {
  const random = new RandomStream([seed]);
  const floats = new Float32Array(memory.buffer, address, numFloats);
  for (let i = 0; i < numFloats; i++) floats[i] = (random.nextUint32() | 0) * 2 ** (random.nextBelow(40) - 50);
  return floats;
}

/** The upper 16 bits of a float32. */
function upperHalf(x: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(x);
  return bytes.readUInt16LE(2);
}

describe('kernels', () => {
  test('the committed module is the assembled kernels.wat', async () => {
    const committed = readFileSync(new URL('./kernels-wasm.ts', import.meta.url), 'utf8');
    assert.equal(committed, await generateKernels(), 'run: node --import tsx worker/arena/generate-kernels.ts');
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

  test('float32 stays as it is', () => {
    const floats = fill(1024, 64, 5);
    const before = floats.slice();
    kernels.round(1024, 256);
    assert.deepEqual(floats, before);
  });

  const words = (at: number, length: number): Uint32Array => new Uint32Array(memory.buffer, at, length);

  // [float32, its bfloat16]: exact, ties to even both ways, nearly ties, the carry into the exponent, subnormal, the largest, NaN.
  const table: readonly (readonly [number, number])[] = [
    [0x00000000, 0x0000],
    [0x80000000, 0x8000],
    [0x3f800000, 0x3f80],
    [0x3f808000, 0x3f80],
    [0x3f808001, 0x3f81],
    [0x3f817fff, 0x3f81],
    [0x3f818000, 0x3f82],
    [0xbf818000, 0xbf82],
    [0x3fffffff, 0x4000],
    [0x00000001, 0x0000],
    [0x00008000, 0x0000],
    [0x00018000, 0x0002],
    [0x80018000, 0x8002],
    [0x007fffff, 0x0080],
    [0x7f7f7fff, 0x7f7f],
    [0x7f7f8000, 0x7f80],
    [0xff7fffff, 0xff80],
    [0x7f800000, 0x7f80],
    [0xff800000, 0xff80],
    [0x7f800001, 0x7fc0],
    [0x7fffffff, 0x7fc0],
    [0xffffffff, 0x7fc0],
    [0xffc00000, 0x7fc0],
  ];
  for (const [from, to] of table)
    test(`0x${from.toString(16).padStart(8, '0')} rounds to the bfloat16 0x${to.toString(16).padStart(4, '0')}`, () => {
      words(1024, 16).fill(from);
      narrowKernels.round(1024, 64);
      narrowKernels.narrow(4096, 1024, 64);
      assert.deepEqual(new Uint16Array(memory.buffer, 4096, 16), new Uint16Array(16).fill(to));
    });

  test('any float32 rounds to the nearest bfloat16, and touches nothing else', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.nat(), (lines, seed) => {
        const random = new RandomStream([seed]);
        const bits = Uint32Array.from({ length: lines * 16 }, () => random.nextUint32());
        words(1024, bits.length).set(bits);
        const after = words(1024 + 64 * lines, 16).fill(7);
        narrowKernels.round(1024, 64 * lines);
        const rounded = new Float32Array(memory.buffer, 1024, bits.length);
        new Float32Array(bits.buffer).forEach((x, i) => assert.ok(Object.is(rounded[i], roundNaively(x)), `${x}`));
        assert.ok(after.every((word) => word === 7));
      }),
      { numRuns: 100 },
    );
  });

  test('with bfloat16 each sum of add2 and add4 is the correctly rounded one, also onto an operand', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.nat(), fc.nat(4), (lines, seed, place) => {
        const [n, bytes] = [lines * 16, lines * 64];
        const at = [1024, 12288, 24576, 49152];
        const [a, b, c, d] = at.map((address, i) => {
          const floats = fill(address, n, seed + i);
          narrowKernels.round(address, bytes);
          return floats.slice();
        });
        const target = place === 4 ? 65536 : at[place]!;
        const add = (x: number, y: number): number => roundNaively(x + y); // x + y is exact in float64
        narrowKernels.add4(target, at[0]!, at[1]!, at[2]!, at[3]!, bytes);
        new Float32Array(memory.buffer, target, n).forEach((sum, i) =>
          assert.ok(Object.is(sum, add(add(a![i]!, b![i]!), add(c![i]!, d![i]!)))),
        );
        new Float32Array(memory.buffer, at[0], n).set(a!);
        new Float32Array(memory.buffer, at[1], n).set(b!);
        const target2 = place < 2 ? at[place]! : 65536;
        narrowKernels.add2(target2, at[0]!, at[1]!, bytes);
        new Float32Array(memory.buffer, target2, n).forEach((sum, i) => assert.ok(Object.is(sum, add(a![i]!, b![i]!))));
      }),
      { numRuns: 50 },
    );
  });

  test('narrowing in place, then widening from the second half, gives the same values', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.nat(), (lines, seed) => {
        const floats = fill(1024, lines * 32, seed);
        const bytes = lines * 128;
        narrowKernels.round(1024, bytes);
        const before = floats.slice();
        narrowKernels.narrow(1024, 1024, bytes);
        const payload = new Uint8Array(memory.buffer, 1024, bytes / 2).slice();
        before.forEach((x, i) => assert.equal(payload[2 * i]! | (payload[2 * i + 1]! << 8), upperHalf(x)));
        floats.fill(Number.NaN);
        new Uint8Array(memory.buffer, 1024 + bytes / 2, bytes / 2).set(payload);
        const after = words(1024 + bytes, 16).fill(7);
        narrowKernels.widen(1024, 1024 + bytes / 2, bytes);
        assert.deepEqual(floats, before);
        assert.ok(after.every((word) => word === 7));
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

  for (const precision of ['float32', 'bfloat16'] as const)
    test(`${precision}: slots, receive places and payloads do not overlap and lie inside the memory`, () => {
      const plan = planBuckets([{ name: 'w', numElements: 2 ** 20 }], 2 ** 20, precision);
      const laneTree = planLaneTree(8, assignLanes(8, 3).runs);
      const arena = new Arena(planArena({ plan, laneTree, rank: 1, frameBytes: 4096, window: [3, 1, 2] }));
      const places: [number, number][] = [];
      if (precision === 'bfloat16') for (const ordinal of [0, 1, 2]) places.push([arena.sumAddress(ordinal), 4096]); // the longest window
      for (let slot = 0; slot < laneTree.folds[1]!.numSlots; slot++)
        places.push([arena.slotAddress(slot, 0), plan.gradientBytes]);
      for (const peer of [0, 2])
        for (let ordinal = 0; ordinal < arena.layout.windows[peer]!; ordinal++)
          for (let node = 0; node < laneTree.folds[peer]!.cover.length; node++)
            places.push([arena.receiveAddress(peer, ordinal, node), widenedBytes(4096, precision)]);
      places.sort(([a], [b]) => a - b);
      places.forEach(([address, length], i) => {
        assert.equal(address % 64, 0);
        assert.ok(address >= 65536);
        assert.ok(address + length <= (places[i + 1]?.[0] ?? arena.memory.buffer.byteLength));
      });
      assert.equal(arena.receiveAddress(0, 3, 0), arena.receiveAddress(0, 0, 0), 'the window wraps');
      assert.equal(arena.receiveAddress(2, 2, 0), arena.receiveAddress(2, 0, 0), 'and another one elsewhere');
      if (precision === 'bfloat16') assert.equal(arena.sumAddress(3), arena.sumAddress(0));
    });

  test('more than 4 GiB is CONFIG_INVALID with advice', () => {
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
