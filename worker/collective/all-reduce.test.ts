import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import type { TrainerError, ErrorCode } from '../../shared/errors.ts';
import type { Clock } from '../../shared/clock.ts';
import { RandomStream } from '../../shared/random.ts';
import { Collective, type CollectiveOptions } from './all-reduce.ts';
import { Arena, planArena } from '../arena/arena.ts';
import { planBuckets, type BucketPlan, type GradientPrecision } from '../arena/bucket-plan.ts';
import { FRAME_PART, FRAME_SUM } from '../mesh/frame-header.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree, type LaneRun, type LaneTree } from '../../shared/lane-tree.ts';
import { SimulatedMesh } from '../mesh/simulated-channels.fixture.ts';
import { NORM_BLOCK_BYTES } from './gradient-norm.ts';
import { checksumNaively, makeLaneGradient, sumNaively } from './lane-gradients.fixture.ts';
import type { StepResult } from './step-tally.ts';

interface Setup {
  readonly worldSize: number;
  readonly numLanes: number;
  /** Those of assignLanes where left out. */
  readonly runs?: readonly LaneRun[];
  readonly sizes: readonly number[];
  readonly bucketBytes: number;
  readonly frameBytes: number;
  /** Dealt out to the ordered pairs of ranks. */
  readonly windows: readonly number[];
  readonly seed: number;
  readonly precision: GradientPrecision;
}

const small: Setup = {
  worldSize: 3,
  numLanes: 4,
  sizes: [100, 7, 33],
  bucketBytes: 256,
  frameBytes: 128,
  windows: [2],
  seed: 1,
  precision: 'float32',
};

class World {
  readonly plan: BucketPlan;
  readonly setup: Setup;
  readonly laneTree: LaneTree;
  readonly network: SimulatedMesh;
  readonly arenas: Arena[] = [];
  readonly collectives: Collective[] = [];

  constructor(setup: Setup, options: Partial<CollectiveOptions> = {}, clock?: Clock) {
    const { worldSize, numLanes, sizes, bucketBytes, frameBytes, windows } = setup;
    this.setup = setup;
    this.plan = planBuckets(
      sizes.map((numElements, i) => ({ name: `p${i}`, numElements })),
      bucketBytes,
      setup.precision,
    );
    const laneTree = planLaneTree(numLanes, setup.runs ?? assignLanes(numLanes, worldSize).runs);
    this.laneTree = laneTree;
    this.network = new SimulatedMesh(worldSize);
    for (let rank = 0; rank < worldSize; rank++) {
      const window = Array.from({ length: worldSize }, (_, peer) => windows[(3 * rank + peer) % windows.length]!);
      const arena = new Arena(planArena({ plan: this.plan, laneTree, rank, frameBytes, window }));
      this.arenas.push(arena);
      this.collectives.push(
        new Collective({
          arena,
          plan: this.plan,
          laneTree,
          rank,
          epoch: 1,
          generation: 7,
          firstStep: 10,
          channels: this.network.channelsOf(rank),
          options: { frameBytes, ...options },
          ...(clock === undefined ? {} : { clock }),
        }),
      );
    }
  }

  /** Runs one lane after another of a rank, as the compute thread does. */
  fold(rank: number, step: number): void {
    const { seed } = this.setup;
    const arena = this.arenas[rank]!;
    for (const foldStep of this.laneTree.folds[rank]!.steps) {
      const gradient = makeLaneGradient(this.plan, seed, step, foldStep.lane);
      arena.floats(foldStep.slot, 0, gradient.length).set(gradient);
      arena.fold(foldStep, 0, this.plan.gradientBytes);
    }
  }

  /** Every rank runs every step; buckets and network events in an order drawn from the seed. */
  async run(steps: readonly number[]): Promise<StepResult[][]> {
    const { worldSize, seed } = this.setup;
    const random = new RandomStream([seed, 99]);
    const results: StepResult[][] = Array.from({ length: worldSize }, () => []);
    let failure: unknown = null;
    const todo: (() => void)[][] = Array.from({ length: worldSize }, () => []);
    const begin = (rank: number, position: number): void => {
      const step = steps[position];
      if (step === undefined) return;
      todo[rank]!.push(() => {
        this.fold(rank, step);
        this.collectives[rank]!.startStep(step)
          .then((result) => {
            const { plan } = this;
            const bytes = this.arenas[rank]!.bytes(this.arenas[rank]!.slotAddress(0, 0), plan.gradientBytes);
            const lanes = Array.from({ length: this.setup.numLanes }, (_, lane) =>
              makeLaneGradient(plan, seed, step, lane),
            );
            const expected = sumNaively(lanes, this.setup.precision);
            assert.deepEqual(
              bytes,
              Buffer.from(expected.buffer),
              `rank ${rank} step ${step}: the sequential tree's bits`,
            );
            results[rank]!.push(result);
            begin(rank, position + 1);
          })
          .catch((error: unknown) => (failure ??= error));
        const buckets = this.plan.buckets.map(({ index }) => index);
        random.shuffle(buckets);
        for (const bucket of buckets) todo[rank]!.push(() => this.collectives[rank]!.bucketReady(bucket));
      });
    };
    for (let rank = 0; rank < worldSize; rank++) begin(rank, 0);
    for (let idle = 0; idle < 3;) {
      const busy = todo.filter((list) => list.length > 0);
      const isComputing = busy.length > 0 && random.nextBelow(4) === 0;
      if (isComputing) busy[random.nextBelow(busy.length)]!.shift()!();
      if (isComputing || this.network.runEvent(random)) {
        idle = 0;
        if (random.nextBelow(8) === 0) await nextTurn();
      } else if (busy.length > 0) busy[random.nextBelow(busy.length)]!.shift()!();
      else {
        idle++;
        await nextTurn();
      }
      if (failure !== null) throw failure as Error;
    }
    return results;
  }
}

const setups = fc
  .record({
    worldSize: fc.integer({ min: 1, max: 9 }),
    extraLevels: fc.integer({ min: 0, max: 2 }),
    sizes: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 }),
    bucketBytes: fc.integer({ min: 64, max: 2048 }),
    frameBytes: fc.integer({ min: 1, max: 8 }).map((lines) => lines * 64),
    windows: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 7 }),
    seed: fc.nat(),
    isEven: fc.boolean(),
    precision: fc.constantFrom<GradientPrecision>('float32', 'bfloat16'),
  })
  .map(({ extraLevels, isEven, ...rest }): Setup => {
    const numLanes = 2 ** (Math.ceil(Math.log2(rest.worldSize)) + extraLevels);
    return { ...rest, numLanes, ...(isEven ? {} : { runs: cutAnywhere(numLanes, rest.worldSize, rest.seed) }) };
  });

/** Contiguous runs of any lengths, one lane at least. */
function cutAnywhere(numLanes: number, worldSize: number, seed: number): LaneRun[] {
  const cuts = Array.from({ length: numLanes - 1 }, (_, i) => i + 1);
  new RandomStream([seed, 98]).shuffle(cuts);
  const ends = [...cuts.slice(0, worldSize - 1).sort((a, b) => a - b), numLanes];
  return ends.map((end, rank) => ({ first: ends[rank - 1] ?? 0, end }));
}

describe('the bits', () => {
  test('every rank holds the sequential tree sum, for any world, lanes, runs, sizes, precision, buckets, frames, windows and timing', async () => {
    await fc.assert(
      fc.asyncProperty(setups, async (setup) => {
        const world = new World(setup);
        const steps = [10, 11, 12];
        const results = await world.run(steps);
        for (const [i] of steps.entries()) {
          const bytes = results.map((of) => of[i]!);
          assert.equal(bytes.length, setup.worldSize);
          for (const { digest, sumOfSquares } of bytes) {
            assert.equal(digest, bytes[0]!.digest);
            assert.ok(Object.is(sumOfSquares, bytes[0]!.sumOfSquares));
          }
        }
        for (const collective of world.collectives) collective.close();
        assert.equal(world.network.numOpen, 0);
      }),
      { numRuns: 200 },
    );
  });

  for (const precision of ['float32', 'bfloat16'] as const)
    test(`${precision}: digest and sum of squares do not depend on the world size, with and without verification`, async () => {
      const seen = new Set<string>();
      for (const verify of [true, false])
        for (const worldSize of [1, 2, 3, 4, 5, 6, 7, 8]) {
          const world = new World({ ...small, numLanes: 8, sizes: [1000, 3, 517], worldSize, precision }, { verify });
          const results = await world.run([10]);
          const { plan } = world;
          const gradient = world.arenas[0]!.bytes(world.arenas[0]!.slotAddress(0, 0), plan.gradientBytes);
          assert.equal(results[0]![0]!.digest, checksumNaively(gradient));
          for (const [result] of results) seen.add(`${result!.digest}/${result!.sumOfSquares}`);
        }
      assert.equal(seen.size, 1);
    });

  test('bfloat16 sends half of the bytes, and its error stays within (1 + log2 lanes) roundings of the magnitudes', async () => {
    const setup = { ...small, worldSize: 4, numLanes: 8, sizes: [4000, 517], bucketBytes: 8192 };
    const run = async (precision: GradientPrecision) => {
      const world = new World({ ...setup, precision });
      await world.run([10]);
      const parameters = world.plan.parameters.map((of) => world.arenas[0]!.floats(0, of.offsetBytes, of.numElements));
      return { network: world.network, sum: parameters.flatMap((values) => [...values]), plan: world.plan };
    };
    const [wide, narrow] = [await run('float32'), await run('bfloat16')];
    const share = narrow.network.sentBytes(0) / wide.network.sentBytes(0);
    assert.ok(Math.abs(share - 0.5) < 0.01, `${share}`);
    assert.equal(narrow.network.sentBytes(0), narrow.network.receivedBytes(0));
    const lanes = Array.from({ length: 8 }, (_, lane) => {
      const gradient = makeLaneGradient(wide.plan, setup.seed, 10, lane);
      return wide.plan.parameters.flatMap(({ offsetBytes, numElements }) => [
        ...gradient.subarray(offsetBytes / 4, offsetBytes / 4 + numElements),
      ]);
    });
    let largest = 0;
    for (const [i, found] of narrow.sum.entries()) {
      const exact = lanes.reduce((sum, lane) => sum + lane[i]!, 0);
      const magnitude = lanes.reduce((sum, lane) => sum + Math.abs(lane[i]!), 0);
      assert.ok(Math.abs(found - exact) <= ((1 + 2 ** -8) ** 4 - 1) * magnitude);
      largest = Math.max(largest, Math.abs(found - exact) / magnitude);
    }
    assert.ok(largest > 2 ** -10, 'it is rounded');
  });

  test('the sum of squares is that of the blocks of each bucket, whatever pieces they came in', async () => {
    const sizes = [3 * 4096 + 100, 5000, 40_000, 17];
    const seen = new Set<string>();
    for (const worldSize of [1, 3, 4]) {
      const world = new World({ ...small, numLanes: 4, sizes, bucketBytes: 60_000, frameBytes: 8128, worldSize });
      const results = await world.run([10]);
      const { plan } = world;
      let expected = 0;
      for (const { startBytes, endBytes } of plan.buckets) {
        let ofBucket = 0;
        for (let at = startBytes; at < endBytes; at += NORM_BLOCK_BYTES) {
          const s = new Float64Array(8);
          const length = Math.min(NORM_BLOCK_BYTES, endBytes - at) / 4;
          world.arenas[0]!.floats(0, at, length).forEach((x, i) => (s[i % 8]! += x * x));
          ofBucket += s[0]! + s[1]! + (s[2]! + s[3]!) + (s[4]! + s[5]! + (s[6]! + s[7]!));
        }
        expected += ofBucket;
      }
      assert.ok(plan.buckets.length > 2);
      for (const [result] of results) assert.ok(Object.is(result!.sumOfSquares, expected));
      seen.add(`${results[0]![0]!.digest}/${expected}`);
    }
    assert.equal(seen.size, 1);
  });

  test('another seed gives another digest', async () => {
    const digests = await Promise.all(
      [1, 2].map(async (seed) => (await new World({ ...small, seed }).run([10]))[0]![0]!.digest),
    );
    assert.notEqual(digests[0], digests[1]);
  });

  for (const precision of ['float32', 'bfloat16'] as const)
    test(`${precision}: a gradient that is not finite is found and placed`, async () => {
      const world = new World({ ...small, worldSize: 1, numLanes: 1, precision });
      world.fold(0, 10);
      world.arenas[0]!.floats(0, 0, 40)[37] = Number.POSITIVE_INFINITY;
      const promise = world.collectives[0]!.startStep(10);
      for (const { index } of world.plan.buckets) world.collectives[0]!.bucketReady(index);
      const { sumOfSquares, firstNonFiniteBytes } = await promise;
      assert.equal(sumOfSquares, Number.POSITIVE_INFINITY);
      assert.equal(firstNonFiniteBytes, 36 * 4);
    });
});

describe('the times of buckets', () => {
  test('each has the times of its announcement and of its final sum, which may come before the last announcement', async () => {
    let nowMs = 1000;
    const clock: Clock = {
      monotonicMs: () => nowMs,
      wallMs: () => nowMs,
      sleep: () => new Promise(() => undefined),
    };
    const world = new World({ ...small, worldSize: 2, numLanes: 2 }, {}, clock);
    const random = new RandomStream([5]);
    const settle = async (): Promise<void> => {
      for (let idle = 0; idle < 3; idle++) {
        while (world.network.runEvent(random)) idle = 0;
        await nextTurn();
      }
    };
    const announce = async (rank: number, bucket: number, atMs: number): Promise<void> => {
      nowMs = atMs;
      world.collectives[rank]!.bucketReady(bucket);
      await settle();
    };
    assert.equal(world.plan.buckets.length, 2);
    const results = world.collectives.map((collective, rank) => {
      world.fold(rank, 10);
      return collective.startStep(10);
    });
    await announce(0, 0, 1010);
    await announce(1, 0, 1025);
    await announce(0, 1, 1070);
    await announce(1, 1, 1100);
    const [first, second] = await Promise.all(results);
    assert.deepEqual(first!.buckets, [
      { announcedMs: 10, finalMs: 25 },
      { announcedMs: 70, finalMs: 100 },
    ]);
    assert.deepEqual(second!.buckets, [
      { announcedMs: 25, finalMs: 25 },
      { announcedMs: 100, finalMs: 100 },
    ]);
  });
});

describe('faults', () => {
  async function expectFailure(world: World, rank: number, code: ErrorCode, text: RegExp): Promise<TrainerError> {
    const error = await world.collectives[rank]!.failed;
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    await Promise.all(world.collectives.map(({ failed }) => failed));
    assert.equal(world.network.numOpen, 0);
    await assert.rejects(world.collectives[rank]!.startStep(10), { code });
    return error;
  }

  /** Runs until the first rank fails. */
  async function runIntoFault(world: World): Promise<void> {
    await assert.rejects(world.run([10, 11]));
  }

  for (const precision of ['float32', 'bfloat16'] as const)
    for (const type of [FRAME_PART, FRAME_SUM] as const)
      test(`${precision}: a changed payload of a ${type === FRAME_PART ? 'part' : 'sum'} is FRAME_INVALID and never reaches a result`, async () => {
        const world = new World({ ...small, precision });
        let numTampered = 0;
        world.network.tamper = (from, header, payload) => {
          if (from === 1 && header.type === type && numTampered++ === 0) payload[5]! ^= 1;
          return header;
        };
        await runIntoFault(world);
        const victim = world.collectives.findIndex(({ error }) => error?.code === 'FRAME_INVALID');
        await expectFailure(
          world,
          victim,
          'FRAME_INVALID',
          /rank 1: payload of bucket \d+ chunk \d+ part \d+: expected checksum/,
        );
      });

  const wrong: [string, Record<string, number>, ErrorCode][] = [
    ['another epoch', { epoch: 2 }, 'FRAME_STALE'],
    ['another generation', { generation: 6 }, 'FRAME_STALE'],
    ['an old step', { step: 9 }, 'FRAME_STALE'],
    ['a step far ahead', { step: 12 }, 'FRAME_STALE'],
    ['another chunk', { chunk: 17 }, 'FRAME_INVALID'],
    ['a later bucket', { bucket: 99 }, 'FRAME_INVALID'],
    ['a later part', { part: 99 }, 'FRAME_INVALID'],
    ['a later node', { node: 99 }, 'FRAME_INVALID'],
    ['another offset', { offsetBytes: 2 ** 40 }, 'FRAME_INVALID'],
    ['another length', { byteLength: 2 ** 31 }, 'FRAME_INVALID'],
    ['the other type', { type: FRAME_SUM }, 'FRAME_INVALID'],
  ];
  for (const [name, change, code] of wrong)
    test(`a frame of ${name} is ${code}`, async () => {
      const world = new World(small);
      world.network.tamper = (from, header) =>
        from === 1 && header.type === FRAME_PART ? { ...header, ...change } : header;
      await runIntoFault(world);
      const victim = world.collectives.findIndex(({ error }) => error?.code === code);
      await expectFailure(world, victim, code, /rank 1: expected/);
    });

  for (const type of [FRAME_PART, FRAME_SUM] as const)
    test(`a replayed ${type === FRAME_PART ? 'part' : 'sum'} is FRAME_STALE`, async () => {
      const world = new World({ ...small, worldSize: 2, numLanes: 2 });
      let last = null as Parameters<SimulatedMesh['tamper']>[1] | null;
      world.network.tamper = (from, header) => {
        if (from !== 1 || header.type !== type) return header;
        if (last !== null) return last;
        return (last = header);
      };
      await runIntoFault(world);
      const victim = world.collectives.findIndex(({ error }) => error?.code === 'FRAME_STALE');
      assert.equal(victim, 0);
      await expectFailure(world, victim, 'FRAME_STALE', /came already/);
    });

  test('a sum before the own parts were sent is FRAME_INVALID', async () => {
    const world = new World({ ...small, worldSize: 2 });
    world.network.tamper = (from, header) =>
      from === 1 && header.type === FRAME_PART ? { ...header, type: FRAME_SUM, chunk: 1 } : header;
    await runIntoFault(world);
    assert.equal(world.collectives[0]!.error?.code, 'FRAME_INVALID');
  });

  test('a channel lost in mid-step is CONNECTION_LOST everywhere and names the rank', async () => {
    const world = new World(small);
    let numFrames = 0;
    world.network.tamper = (_from, header) => {
      if (++numFrames === 7) world.network.channelsOf(2)[0]!.close('NORMAL', 'gone');
      return header;
    };
    await runIntoFault(world);
    await expectFailure(world, 0, 'CONNECTION_LOST', /rank [012]/);
    assert.ok(numFrames >= 7);
  });

  test('an abort ends the step with ABORTED and closes the channels', async () => {
    const world = new World(small);
    const controller = new AbortController();
    const promise = world.collectives[0]!.startStep(10, controller.signal);
    controller.abort();
    await assert.rejects(promise, { code: 'ABORTED' });
    await expectFailure(world, 0, 'ABORTED', /step 10 was aborted/);
  });

  test('a stalled peer is COLLECTIVE_TIMEOUT that names rank, bucket and part', async () => {
    let nowMs = 0;
    const sleeping: { untilMs: number; wake: () => void }[] = [];
    const clock: Clock = {
      monotonicMs: () => nowMs,
      wallMs: () => nowMs,
      sleep: (ms) => new Promise((wake) => sleeping.push({ untilMs: nowMs + ms, wake })),
    };
    const world = new World({ ...small, worldSize: 2 }, { timeoutMs: 500 }, clock);
    world.fold(0, 10);
    const promise = world.collectives[0]!.startStep(10);
    for (const { index } of world.plan.buckets) world.collectives[0]!.bucketReady(index);
    const random = new RandomStream([3]);
    nowMs = 400;
    while (world.network.runEvent(random)) await nextTurn(); // frames leave: progress at 400
    nowMs = 500;
    sleeping.shift()!.wake();
    await nextTurn();
    assert.equal(world.collectives[0]!.error, null, 'there was progress 100 ms ago');
    nowMs = 900;
    sleeping.shift()!.wake();
    await assert.rejects(promise, { code: 'COLLECTIVE_TIMEOUT' });
    await expectFailure(
      world,
      0,
      'COLLECTIVE_TIMEOUT',
      /rank 1 has not sent its part of bucket 0 chunk 0 part 0; rank 1 has not sent the sum of bucket 0 chunk 1 part 0/,
    );
  });

  test('steps out of order and unknown or repeated buckets are refused', async () => {
    const world = new World(small);
    const [collective] = world.collectives;
    assert.throws(() => collective!.bucketReady(0), { code: 'INTERNAL' });
    await assert.rejects(collective!.startStep(11), { code: 'INTERNAL' });
    const promise = collective!.startStep(10);
    await assert.rejects(collective!.startStep(10), { code: 'INTERNAL' });
    collective!.bucketReady(1);
    assert.throws(() => collective!.bucketReady(1), { code: 'INTERNAL' });
    assert.throws(() => collective!.bucketReady(99), { code: 'INTERNAL' });
    collective!.close();
    await assert.rejects(promise, { code: 'ABORTED' });
  });
});
