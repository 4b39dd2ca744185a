import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RandomStream } from '../../shared/random.ts';
import { Stragglers, type RankTimes, type StragglerNotice } from './stragglers.ts';

/** What a rank takes in one step; feed and compute a lane. */
interface Load {
  readonly feed?: number;
  readonly compute?: number;
  readonly update?: number;
  readonly numLanes?: number;
  /** It gets its sums later than the others by so much. */
  readonly lateMs?: number;
}

/** A generation: everybody goes on from its update to its lanes, then waits for the last one and for the links. */
class Generation {
  readonly stragglers = new Stragglers();
  readonly told: StragglerNotice[] = [];
  last: readonly RankTimes[] = [];
  #step = 0;
  #starts: number[] = [];

  run(numSteps: number, linksMs: number, loadOf: (rank: number, step: number) => Load, worldSize = 3): this {
    for (let i = 0; i < numSteps; i++) {
      this.#step++;
      const loads = Array.from({ length: worldSize }, (_, rank) => ({
        feed: 2,
        compute: 98,
        update: 40,
        numLanes: 4,
        lateMs: 0,
        ...loadOf(rank, this.#step),
      }));
      const starts = loads.map((_, rank) => this.#starts[rank] ?? 0);
      const arrivals = loads.map(({ feed, compute, numLanes }, rank) => starts[rank]! + numLanes * (feed + compute));
      const reduced = Math.max(...arrivals) + linksMs;
      this.#starts = loads.map(({ update, lateMs }) => reduced + lateMs + update);
      this.last = loads.map(({ feed, compute, update, numLanes, lateMs }, rank) => ({
        rank,
        workerId: `w${rank}`,
        numLanes,
        ms: {
          feed: numLanes * feed,
          compute: numLanes * compute,
          communicate: reduced + lateMs - arrivals[rank]!,
          update,
          total: this.#starts[rank]! - starts[rank]!,
        },
      }));
      this.told.push(...this.stragglers.observe(this.#step, this.last));
    }
    return this;
  }

  /** `step kind change rank cause` of what was told. */
  get changes(): string[] {
    return this.told.map((notice) =>
      notice.kind === 'links'
        ? `${notice.step} links ${notice.change}`
        : `${notice.step} rank ${notice.rank} ${notice.change} ${notice.cause}`,
    );
  }
}

const slowCompute = (rank: number): Load => (rank === 1 ? { compute: 208 } : {});

describe('stragglers', () => {
  test('equally fast ranks give no notice', () => {
    assert.deepEqual(new Generation().run(50, 10, () => ({})).told, []);
  });

  test('a rank that computes twice as long is reported once, after five steps, with factor, cause and cost', () => {
    const { told } = new Generation().run(1 + 20, 10, slowCompute);
    assert.equal(told.length, 1);
    const [notice] = told;
    assert.ok(notice?.kind === 'rank');
    const { factor, waitMs, ...rest } = notice;
    assert.ok(Math.abs(factor - 2.1) < 1e-9);
    assert.ok(Math.abs(waitMs - 440) < 1e-9);
    assert.deepEqual(rest, {
      kind: 'rank',
      change: 'begins',
      step: 6,
      rank: 1,
      workerId: 'w1',
      cause: 'compute',
      sentence:
        "rank 1 (w1) is slow: 2.1 times a typical rank's time a lane (210 instead of 100 ms), most of it compute; the others wait 440 ms a step for it",
    });
  });

  test('of two ranks the slower one is reported', () => {
    const generation = new Generation().run(10, 10, slowCompute, 2);
    assert.deepEqual(generation.changes, ['6 rank 1 begins compute']);
  });

  test('a rank that waits for its rows has the cause feed', () => {
    const generation = new Generation().run(10, 10, (rank) => (rank === 2 ? { feed: 90, compute: 110 } : {}));
    assert.deepEqual(generation.changes, ['6 rank 2 begins feed']);
  });

  test('a recovery is reported once the mean confirms it', () => {
    const generation = new Generation().run(10, 10, slowCompute).run(20, 10, () => ({}));
    assert.deepEqual(generation.changes, ['6 rank 1 begins compute', '15 rank 1 ends compute']);
    assert.match(generation.told[1]!.sentence, /^rank 1 \(w1\) is slow no more: 1\.\d times/u);
  });

  test('a changed cause is reported once it is steady', () => {
    const generation = new Generation()
      .run(10, 10, slowCompute)
      .run(4, 10, (rank) => (rank === 1 ? { feed: 202, compute: 98 } : {}))
      .run(2, 10, slowCompute)
      .run(10, 10, (rank) => (rank === 1 ? { feed: 202, compute: 98 } : {}));
    assert.deepEqual(generation.changes, ['6 rank 1 begins compute', '21 rank 1 cause feed']);
    assert.match(generation.told[1]!.sentence, /for another reason, most of it is feed now/u);
  });

  test('a rank that is slow per lane, with so few lanes that no rank waits, is reported as such', () => {
    const { told } = new Generation().run(10, 10, (rank) => (rank === 1 ? { compute: 198, numLanes: 2 } : {}));
    assert.match(told[0]!.sentence, /with 2 lanes it delays no other rank$/u);
  });

  for (const [what, worldSize, loadOf] of [
    ['one long step, however long', 3, (rank, step) => (rank === 1 && step === 9 ? { compute: 50_000 } : {})],
    ['four long steps', 3, (rank, step) => (rank === 1 && step >= 9 && step < 13 ? { compute: 250 } : {})],
    ['the first step, which compiles', 3, (rank, step) => (rank === 1 && step === 1 ? { compute: 1e6 } : {})],
    ['a rank that is slow by less than the factor', 3, (rank) => (rank === 1 ? { compute: 147 } : {})],
    ['a rank that is slow by less than anyone notices', 3, (rank) => ({ feed: 0, compute: rank === 1 ? 15 : 3 })],
    ['more lanes on one rank', 3, (rank) => ({ numLanes: rank === 1 ? 12 : 4 })],
    ['a long update, which is the same work on all', 3, (rank) => ({ update: rank === 1 ? 300 : 40 })],
    ['everybody slow alike', 3, (_, step) => ({ compute: step > 10 ? 900 : 98 })],
    ['times of zero, as of a clock that stands', 3, () => ({ feed: 0, compute: 0, update: 0 })],
    ['one rank alone', 1, (_, step) => ({ compute: 100 * step })],
  ] satisfies [string, number, (rank: number, step: number) => Load][])
    test(`no notice of ${what}`, () => {
      assert.deepEqual(new Generation().run(40, 10, loadOf, worldSize).told, []);
    });

  test('noise of a fifth either way, on any number of ranks and lanes, gives no notice', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 8 }),
        fc.integer({ min: 1, max: 6 }),
        fc.nat(),
        (worldSize, numLanes, seed) => {
          const random = new RandomStream([seed]);
          const noisy = (ms: number): number => ms * (0.8 + (0.4 * random.nextUint32()) / 2 ** 32);
          const loadOf = (): Load => ({ feed: noisy(30), compute: noisy(100), update: noisy(40), numLanes });
          assert.deepEqual(new Generation().run(100, noisy(20), loadOf, worldSize).told, []);
        },
      ),
    );
  });

  test('one slow rank in that noise is reported, and no other', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 8 }), fc.nat(), fc.nat(), (worldSize, seed, slow) => {
        const random = new RandomStream([seed]);
        const noisy = (ms: number): number => ms * (0.8 + (0.4 * random.nextUint32()) / 2 ** 32);
        const loadOf = (rank: number): Load => ({ compute: noisy(rank === slow % worldSize ? 250 : 100) });
        const { changes } = new Generation().run(30, 10, loadOf, worldSize);
        assert.deepEqual(changes, [`6 rank ${slow % worldSize} begins compute`]);
      }),
    );
  });
});

describe('slow links', () => {
  test('are reported without a rank when they take most of a step, and when that ends', () => {
    const generation = new Generation().run(10, 600, () => ({})).run(20, 10, () => ({}));
    assert.deepEqual(generation.changes, ['6 links begins', '15 links ends']);
    assert.equal(
      generation.told[0]!.sentence,
      'the links are slow: 600 of 1040 ms a step are spent in the all-reduce itself, while no rank computes; the slow rank is not identifiable',
    );
  });

  test('waiting for a slow rank is not reported as slow links', () => {
    const { changes } = new Generation().run(20, 10, (rank) => (rank === 1 ? { compute: 2_000 } : {}));
    assert.deepEqual(changes, ['6 rank 1 begins compute']);
  });

  test('a slow link of one rank slows all ranks alike, so no rank is named', () => {
    const generation = new Generation().run(20, 10, (rank) => (rank === 1 ? { lateMs: 800 } : {}));
    assert.deepEqual(generation.changes, ['6 links begins']);
    const unexplained = generation.last.map(({ ms }) => ms.total - ms.feed - ms.compute - ms.update);
    assert.deepEqual(unexplained, [810, 810, 810]);
  });

  test('a few milliseconds are not reported, even if they are most of a step', () => {
    const generation = new Generation().run(20, 45, () => ({ feed: 0, compute: 1, update: 1 }));
    assert.deepEqual(generation.told, []);
  });
});

describe('speeds', () => {
  test('are lanes per second, once five steps after the first are known', () => {
    const generation = new Generation().run(1, 10, () => ({ compute: 1e6 })).run(4, 10, slowCompute);
    assert.equal(generation.stragglers.speeds(), undefined);
    generation.run(1, 10, slowCompute);
    const speeds = generation.stragglers.speeds()!.map((speed) => Number(speed.toFixed(9)));
    assert.deepEqual(speeds, [10, Number((1000 / 210).toFixed(9)), 10]);
  });

  test('follow a rank that changes', () => {
    const generation = new Generation().run(10, 10, slowCompute).run(40, 10, () => ({ compute: 48 }));
    for (const speed of generation.stragglers.speeds()!) assert.ok(Math.abs(speed - 20) < 0.1, `${speed}`);
  });

  test('are undefined for a single rank and for times of zero', () => {
    assert.equal(new Generation().run(20, 10, () => ({}), 1).stragglers.speeds(), undefined);
    assert.equal(new Generation().run(20, 10, () => ({ feed: 0, compute: 0 })).stragglers.speeds(), undefined);
  });
});
