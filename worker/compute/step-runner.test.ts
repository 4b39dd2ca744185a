import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createBatchArrays } from '../../mixture/feed/batch.ts';
import { TrainerError } from '../../shared/errors.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import { Arena, planArena } from '../arena/arena.ts';
import { planBuckets } from '../arena/bucket-plan.ts';
import { sumNaively } from '../collective/lane-gradients.fixture.ts';
import type { Engine } from '../engine/engine.ts';
import type { FilledBatch } from '../feed/feed.ts';
import { ProgressCell } from '../network/progress-cell.ts';
import { StepRunner, type BadLoss, type StepRunnerInit } from './step-runner.ts';
import type { Deal, Reduced } from '../network/network-messages.ts';

const NAMES = ['shared.weight', 'encoder.weight', 'lm_head.weight'];
const SIZES = [5, 40, 3];
// Backward order: two buckets, the second one with two parameters.
const plan = planBuckets(
  [2, 1, 0].map((i) => ({ name: NAMES[i]!, numElements: SIZES[i]! })),
  160,
);
const NUM_LANES = 4;
const MICROBATCHES = 2;
const never = new AbortController().signal;

/** Gradient of a parameter in a microbatch: of many magnitudes, so that the order of additions shows. */
const gradientOf = (lane: number, microbatch: number, parameter: number) =>
  Float32Array.from({ length: SIZES[parameter]! }, (_, i) => (i + 1.7) * 3 ** (lane * 5 - microbatch * 7 + parameter));

const dealOf = (step: number, lanes: readonly number[]): Deal => ({
  kind: 'deal',
  epoch: 1,
  generation: 1,
  step,
  learningRate: 0.25,
  targetTokens: 8,
  lanes: lanes.map((lane) => ({ lane, rows: new Uint8Array(0) })),
  proveState: false,
});

interface Fakes {
  readonly worldSize?: number;
  readonly rank?: number;
  readonly crossEntropy?: number;
  readonly zLoss?: number;
  readonly optimizer?: StepRunnerInit['optimizer'];
  readonly reduced?: Partial<Reduced>;
  readonly optimizerStep?: number;
  /** Called with each line of the record before it is written; may abort or throw. */
  readonly onCall?: (line: string) => void;
}

/** A runner between fakes, the record of what it asked of them, and what it applied. */
function makeRunner(fakes: Fakes = {}) {
  const {
    worldSize = 1,
    rank = 0,
    crossEntropy = 1,
    zLoss = 0,
    optimizer = {},
    reduced,
    optimizerStep,
    onCall,
  } = fakes;
  const calls: string[] = [];
  const phases: string[] = [];
  const released: number[] = [];
  let applied: { gradients: Float32Array[]; update: unknown } | undefined;
  let nowMs = 0;
  const laneTree = planLaneTree(NUM_LANES, assignLanes(NUM_LANES, worldSize).runs);
  const arena = new Arena(planArena({ plan, laneTree, rank, frameBytes: 64, window: 1 }));
  const progress = new ProgressCell();
  const record = (line: string, ms: number): void => {
    const { phase, step } = progress.read();
    phases.push(`${phase} ${step}`);
    onCall?.(line);
    calls.push(line);
    nowMs += ms;
  };
  let place = { lane: 0, microbatch: 0 };
  const engine = {
    step: (_batch: unknown, onGradient: (parameter: number, gradient: Float32Array) => void) => {
      const { lane, microbatch } = place;
      record(`step ${lane}.${microbatch}`, 10);
      for (const parameter of [2, 1, 0]) onGradient(parameter, gradientOf(lane, microbatch, parameter));
      return Promise.resolve({ crossEntropy: Float32Array.of(crossEntropy), zLoss: Float32Array.of(zLoss) });
    },
    apply: (gradients: readonly Float32Array[], update: unknown) => {
      record('apply', 1000);
      applied = { gradients: gradients.map((gradient) => gradient.slice()), update };
      return Promise.resolve();
    },
  } as unknown as Engine;
  const feed = {
    next: (expected: { step: number; lane: number; microbatch: number }, signal: AbortSignal): Promise<FilledBatch> => {
      record(`feed ${expected.lane}.${expected.microbatch}`, 1);
      if (signal.aborted) return Promise.reject(new TrainerError('ABORTED', 'the feed was aborted'));
      place = expected;
      const arrays = createBatchArrays(1, 1, 1);
      arrays.taskOfTarget[0] = 1;
      return Promise.resolve({ ...expected, slot: calls.length, arrays, inputTokens: 3 });
    },
    release: ({ slot }: { slot: number }) => void released.push(slot),
  };
  const sums = { kind: 'reduced' as const, sumOfSquares: 1, firstNonFiniteBytes: null };
  const init: StepRunnerInit = {
    engine,
    feed,
    gradient: { arena, plan, laneTree, rank },
    microbatchesPerLane: MICROBATCHES,
    ...(optimizerStep === undefined ? {} : { optimizerStep }),
    optimizer,
    reducer: {
      beginStep: (step) => record(`begin ${step}`, 0),
      bucketReady: (bucket) => record(`bucket ${bucket}`, 0),
      reduced: (step, signal) => {
        record(`reduced ${step}`, 100);
        if (signal.aborted) return Promise.reject(new TrainerError('ABORTED', 'the sum was aborted'));
        return Promise.resolve({ ...sums, step, ...reduced });
      },
    },
    progress,
    clock: { monotonicMs: () => nowMs, wallMs: () => 0, sleep: () => Promise.resolve() },
  };
  return { runner: new StepRunner(init), calls, phases, released, progress, applied: () => applied };
}

describe('step runner', () => {
  test('feeds and computes lane by lane, announces each bucket once from the last lane, then reduces and applies', async () => {
    const { runner, calls, phases, released, progress } = makeRunner();
    await runner.run(dealOf(7, [0, 1, 2, 3]), never);
    const lane = (index: number) => [0, 1].flatMap((m) => [`feed ${index}.${m}`, `step ${index}.${m}`]);
    assert.deepEqual(calls, ['begin 7', ...[0, 1, 2, 3].flatMap(lane), 'bucket 0', 'bucket 1', 'reduced 7', 'apply']);
    assert.equal(released.length, 8);
    assert.deepEqual([...new Set(phases.slice(1))], ['feed 6', 'compute 6', 'communicate 6', 'update 6']);
    assert.deepEqual([progress.read().phase, progress.read().step], ['waiting', 7]);
  });

  test('applies the canonical sum of all lanes over the target tokens, with the step counted from 0', async () => {
    const { runner, applied } = makeRunner();
    await runner.run(dealOf(7, [0, 1, 2, 3]), never);
    const expected = [0, 1, 2].map((parameter) =>
      sumNaively(
        [0, 1, 2, 3].map((lane) => {
          const second = gradientOf(lane, 1, parameter);
          return gradientOf(lane, 0, parameter).map((x, i) => x + second[i]!);
        }),
      ),
    );
    assert.deepEqual(applied(), {
      gradients: expected,
      update: { step: 6, learningRate: 0.25, gradientScale: 1 / 8 },
    });
  });

  test('a gradient above the largest norm is scaled down to it, and a smaller one stays as it is', async () => {
    const lanes = dealOf(7, [0, 1, 2, 3]);
    // The sum has norm 80 and the step 8 target tokens: the mean gradient has norm 10.
    for (const [maxGradNorm, factor] of [
      [4, 4 / (10 + 1e-6)],
      [11, 1],
      [undefined, 1],
    ] as const) {
      const { runner, applied } = makeRunner({ optimizer: { maxGradNorm }, reduced: { sumOfSquares: 6400 } });
      await runner.run(lanes, never);
      const { gradientScale } = applied()!.update as { gradientScale: number };
      assert.equal(gradientScale, factor / 8);
    }
  });

  test('reports the loss sums of its lanes and where the time went', async () => {
    const { runner } = makeRunner({ worldSize: 2, rank: 1, crossEntropy: 1.5, zLoss: 0.25 });
    const outcome = await runner.run(dealOf(1, [2, 3]), never);
    assert.ok(outcome.kind === 'applied');
    const { lanes, ms } = outcome;
    assert.deepEqual(
      lanes,
      [2, 3].map((lane) => ({ lane, tasks: [{ task: 1, loss: 3, targetTokens: 2 }], zLoss: 0.5, inputTokens: 6 })),
    );
    assert.deepEqual(ms, { feed: 4, compute: 40, communicate: 100, update: 1000, total: 1144 });
  });

  const notFinite: readonly [string, Fakes, string, BadLoss[]][] = [
    ['of a parameter', { reduced: { firstNonFiniteBytes: plan.parameters[1]!.offsetBytes } }, 'encoder.weight', []],
    [
      'within a parameter',
      { reduced: { firstNonFiniteBytes: plan.parameters[2]!.offsetBytes - 4 } },
      'encoder.weight',
      [],
    ],
    [
      'that comes from a loss',
      { reduced: { firstNonFiniteBytes: 0 }, crossEntropy: NaN },
      'lm_head.weight',
      [0, 1, 2, 3].map((lane) => ({ lane, task: 1, loss: 'NaN' })),
    ],
    [
      'that comes from a z-loss',
      { worldSize: 2, rank: 1, reduced: { firstNonFiniteBytes: 0 }, zLoss: Infinity },
      'lm_head.weight',
      [2, 3].map((lane) => ({ lane, task: null, loss: 'Infinity' })),
    ],
  ];
  for (const [what, fakes, name, losses] of notFinite)
    test(`a gradient ${what} that is not finite is reported with the own losses, and nothing is applied`, async () => {
      const { runner, calls, progress } = makeRunner(fakes);
      const lanes = fakes.rank === 1 ? [2, 3] : [0, 1, 2, 3];
      const reason = `the gradient of ${name} is not finite`;
      assert.deepEqual(await runner.run(dealOf(2, lanes), never), { kind: 'not-finite', reason, losses });
      assert.equal(calls.at(-1), 'reduced 2');
      assert.ok(runner.isStateWhole);
      assert.deepEqual([progress.read().phase, progress.read().step], ['waiting', 1]);
    });

  test('a loss that is not finite is reported, and the step is not applied here, though the gradient is finite', async () => {
    const { runner, calls } = makeRunner({ crossEntropy: Infinity });
    assert.equal((await runner.run(dealOf(2, [0, 1, 2, 3]), never)).kind, 'not-finite');
    assert.notEqual(calls.at(-1), 'apply');
  });

  test('a deal of other lanes than the rank has, or in another order, is refused before the step begins', async () => {
    for (const lanes of [[0, 1, 2], [1, 0, 2, 3], [0, 1, 2, 3, 4], []]) {
      const { runner, calls } = makeRunner();
      await assert.rejects(runner.run(dealOf(1, lanes), never), {
        code: 'MESSAGE_INVALID',
        message: /expected the lanes 0, 1, 2, 3 of rank 0, was dealt/u,
      });
      assert.deepEqual(calls, []);
    }
  });

  for (const during of ['begin 1', 'feed 0.0', 'step 0.1', 'step 3.1', 'bucket 1', 'reduced 1'])
    test(`an abort at "${during}" ends the step, and nothing is applied`, async () => {
      const stop = new AbortController();
      const onCall = (line: string): void => {
        if (line === during) stop.abort();
      };
      const { runner, calls, released } = makeRunner({ onCall });
      await assert.rejects(runner.run(dealOf(1, [0, 1, 2, 3]), stop.signal), { code: 'ABORTED' });
      assert.ok(!calls.includes('apply'));
      assert.ok(runner.isStateWhole);
      assert.equal(released.length, calls.filter((line) => line.startsWith('step')).length, 'every slot is given back');
    });

  test('a signal that has fired already lets nothing begin', async () => {
    const { runner, calls } = makeRunner();
    await assert.rejects(runner.run(dealOf(1, [0, 1, 2, 3]), AbortSignal.abort()), { code: 'ABORTED' });
    assert.deepEqual(calls, []);
  });

  test('a kept optimizer state goes on counting its updates', async () => {
    const { runner, applied } = makeRunner({ optimizerStep: 100 });
    await runner.run(dealOf(1, [0, 1, 2, 3]), never);
    assert.deepEqual(applied()?.update, { step: 100, learningRate: 0.25, gradientScale: 1 / 8 });
  });

  test('failures of the feed, the engine or the collective are thrown, and slots are released', async () => {
    for (const [during, code] of [
      ['feed 2.1', 'SHARD_CORRUPT'],
      ['step 2.1', 'TENSOR_LEAK'],
      ['reduced 1', 'CONNECTION_LOST'],
    ] as const) {
      const onCall = (line: string): void => {
        if (line === during) throw new TrainerError(code, 'as the test wants');
      };
      const { runner, released, calls } = makeRunner({ onCall });
      await assert.rejects(runner.run(dealOf(1, [0, 1, 2, 3]), never), { code });
      assert.ok(runner.isStateWhole);
      assert.equal(released.length, calls.filter((line) => line.startsWith('feed')).length);
    }
  });

  test('a failure in the update leaves a state that is not whole', async () => {
    const onCall = (line: string): void => {
      if (line === 'apply') throw new TrainerError('ENGINE_OUT_OF_MEMORY', 'as the test wants');
    };
    const { runner } = makeRunner({ onCall });
    await assert.rejects(runner.run(dealOf(1, [0, 1, 2, 3]), never), { code: 'ENGINE_OUT_OF_MEMORY' });
    assert.ok(!runner.isStateWhole);
  });
});
