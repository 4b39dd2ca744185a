import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createBatchArrays, type BatchArrays } from '../../mixture/feed/batch.ts';
import { encodeRows } from '../../mixture/plan/planned-rows.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import type { Clock } from '../../shared/clock.ts';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { initialiseParameters } from '../../worker/model/initialise.ts';
import { numElements } from '../../worker/model/parameters.ts';
import { ToyEngine, type Mishap } from './toy-engine.ts';
import { ToyFeed } from './toy-feed.ts';
import { createToyMixture, TOY_FEATURE_LENGTHS } from './toy-mixture.ts';
import { TOY_MODEL } from './toy-run.ts';
import { VirtualTime } from './virtual-clock.ts';
import { VirtualProcess } from './virtual-process.ts';

const config = modelConfigSchema.parse(TOY_MODEL);
const still: Clock = { monotonicMs: () => 0, wallMs: () => 0, sleep: () => Promise.resolve() };
const never = new AbortController().signal;
const UPDATE = { step: 3, learningRate: 0.01, gradientScale: 1 / 16 };

async function makeEngine(mishap?: (call: 'step' | 'apply', numBefore: number) => Mishap | undefined) {
  const engine = new ToyEngine({
    config,
    clock: still,
    stepMs: () => 1,
    applyMs: () => 1,
    ...(mishap === undefined ? {} : { mishap }),
  });
  await engine.load(initialiseParameters(engine.parameters, 1), 'zero');
  return engine;
}

function batchOf(token: number): BatchArrays {
  const batch = createBatchArrays(1, 4, 3);
  batch.encoderInputIds.fill(token);
  batch.labels.fill(token);
  batch.decoderSegmentIds.fill(1);
  return batch;
}

async function gradientOf(engine: ToyEngine, batch: BatchArrays): Promise<Float32Array[]> {
  const gradients: Float32Array[] = [];
  const order: number[] = [];
  await engine.step(batch, (parameter, gradient) => {
    order.push(parameter);
    gradients[parameter] = gradient.slice();
  });
  assert.deepEqual(order, [...gradients.keys()].reverse(), 'last parameter first');
  return gradients;
}

async function stateOf(engine: ToyEngine) {
  const empty = (specs: ToyEngine['optimizerSlots']) =>
    new Map(specs.map(({ name, shape }) => [name, new Float32Array(numElements(shape))]));
  const state = { parameters: empty(engine.parameters), optimizer: empty(engine.optimizerSlots) };
  await engine.readBack(state.parameters, state.optimizer);
  return state;
}

const digestOf = async (engine: ToyEngine): Promise<string> => {
  const { parameters, optimizer } = await stateOf(engine);
  return parameterDigest(parameters) + parameterDigest(optimizer);
};

describe('toy engine', () => {
  test('has at most a few thousand parameters', async () => {
    const { parameters } = await makeEngine();
    const total = parameters.reduce((sum, { shape }) => sum + numElements(shape), 0);
    assert.ok(total > 300 && total < 4_000, `${total}`);
  });

  test('the same batch and parameters give the same gradient; another batch or one changed bit gives another', async () => {
    const engine = await makeEngine();
    const first = await gradientOf(engine, batchOf(3));
    assert.deepEqual(await gradientOf(engine, batchOf(3)), first);
    assert.notDeepEqual(await gradientOf(engine, batchOf(4)), first);
    const { parameters } = await stateOf(engine);
    for (const values of parameters.values()) new Uint32Array(values.buffer)[0]! ^= 1;
    await engine.load(parameters, 'zero');
    const other = await gradientOf(engine, batchOf(3));
    for (const [i, gradient] of first.entries()) assert.notDeepEqual(other[i], gradient, engine.parameters[i]!.name);
  });

  test('adding lanes in another order gives other bits', async () => {
    const engine = await makeEngine();
    const lanes: Float32Array[][] = [];
    for (const token of [2, 3, 4, 5]) lanes.push(await gradientOf(engine, batchOf(token)));
    const add = (a: Float32Array, b: Float32Array) => a.map((x, i) => x + b[i]!);
    let numOther = 0;
    for (const [i] of engine.parameters.entries()) {
      const [a, b, c, d] = lanes.map((lane) => lane[i]!) as [Float32Array, Float32Array, Float32Array, Float32Array];
      const [tree, chain] = [add(add(a, b), add(c, d)), add(add(add(a, b), c), d)];
      if (!Buffer.from(tree.buffer).equals(Buffer.from(chain.buffer))) numOther += 1;
    }
    assert.ok(numOther > engine.parameters.length / 2, `${numOther} of ${engine.parameters.length}`);
  });

  test('the update depends on step, learning rate, scale and optimizer state', async () => {
    const digests: string[] = [];
    for (const [update, times] of [
      [UPDATE, 1],
      [UPDATE, 1],
      [{ ...UPDATE, step: 4 }, 1],
      [{ ...UPDATE, learningRate: 0.02 }, 1],
      [{ ...UPDATE, gradientScale: 1 / 17 }, 1],
      [UPDATE, 2],
    ] as const) {
      const engine = await makeEngine();
      const gradient = await gradientOf(engine, batchOf(3));
      for (let i = 0; i < times; i++) await engine.apply(gradient, update);
      digests.push(await digestOf(engine));
    }
    assert.equal(digests[0], digests[1]);
    assert.equal(new Set(digests).size, 5);
  });

  test('a state that is read back and loaded elsewhere continues with the same bits, and is a copy', async () => {
    const [here, there] = [await makeEngine(), await makeEngine()];
    await here.apply(await gradientOf(here, batchOf(3)), UPDATE);
    const { parameters, optimizer } = await stateOf(here);
    await there.load(parameters, optimizer);
    for (const values of [...parameters.values(), ...optimizer.values()]) values.fill(0);
    for (const engine of [here, there]) await engine.apply(await gradientOf(engine, batchOf(4)), UPDATE);
    assert.equal(await digestOf(there), await digestOf(here));
    await assert.rejects(there.load(new Map([...parameters].slice(1)), 'zero'), { code: 'CHECKPOINT_MISMATCH' });
    await assert.rejects(there.readBack(new Map([['x', new Float32Array(1)]]), new Map()), {
      code: 'CHECKPOINT_MISMATCH',
    });
  });

  test('injected mishaps happen: a failure, a NaN, a flipped bit', async () => {
    const failing = await makeEngine((call, numBefore) => (call === 'step' && numBefore === 1 ? 'throw' : undefined));
    await gradientOf(failing, batchOf(3));
    await assert.rejects(gradientOf(failing, batchOf(3)), { code: 'INTERNAL' });
    const spoilt = await makeEngine(() => 'nan');
    assert.ok((await gradientOf(spoilt, batchOf(3)))[0]!.some(Number.isNaN));
    const [sound, flipped] = [
      await makeEngine(),
      await makeEngine((call) => (call === 'apply' ? 'flip-bit' : undefined)),
    ];
    for (const engine of [sound, flipped]) await engine.apply(await gradientOf(engine, batchOf(3)), UPDATE);
    assert.notEqual(await digestOf(flipped), await digestOf(sound));
  });

  test('a step never ends in a crashed process', async () => {
    const time = new VirtualTime();
    const process = new VirtualProcess(time, 'w');
    const engine = new ToyEngine({ config, clock: process.clock, stepMs: () => 10, applyMs: () => 10 });
    const ended: string[] = [];
    let numGradients = 0;
    void engine.step(batchOf(3), () => numGradients++).then(() => ended.push('step'));
    await time.run(7);
    assert.equal(numGradients, engine.parameters.length - 1 - (engine.parameters.length >> 1));
    process.crash();
    await time.run(100);
    assert.deepEqual([ended, numGradients], [[], engine.parameters.length - 1 - (engine.parameters.length >> 1)]);
  });
});

describe('toy feed', () => {
  const ROW = [{ task: 1, index: 3, epoch: 0 }];
  const makeFeed = (clock: Clock = still) =>
    new ToyFeed({
      mixture: createToyMixture(),
      seed: 1,
      microbatchRows: 1,
      microbatchesPerLane: 2,
      clock,
      delayMs: () => 2,
    });
  const lanes = [{ lane: 3, rows: encodeRows([ROW, [{ task: 0, index: 0, epoch: 1 }, ...ROW]]) }];

  test('returns the dealt rows as microbatches, in order', async () => {
    const feed = makeFeed();
    assert.deepEqual(await feed.opened, ['ants', 'bees', 'cows']);
    feed.deal(4, lanes);
    const first = await feed.next({ step: 4, lane: 3, microbatch: 0 }, never);
    const second = await feed.next({ step: 4, lane: 3, microbatch: 1 }, never);
    assert.equal(first.arrays.inputsLength, TOY_FEATURE_LENGTHS.inputs);
    assert.deepEqual(new Set(first.arrays.taskOfTarget), new Set([1, -1]));
    assert.deepEqual(new Set(second.arrays.taskOfTarget), new Set([0, 1, -1]));
    assert.ok(first.inputTokens > 0);
    for (const batch of [first, second]) feed.release(batch);
    assert.throws(() => feed.release(first), { code: 'INTERNAL' });
    await assert.rejects(feed.next({ step: 4, lane: 3, microbatch: 2 }, never), { message: /got nothing/u });
  });

  test('takes time, and does not return dropped rows', async () => {
    const time = new VirtualTime();
    const feed = makeFeed(new VirtualProcess(time, 'w').clock);
    feed.deal(4, lanes);
    await feed.drop();
    feed.deal(5, lanes);
    const batch = feed.next({ step: 5, lane: 3, microbatch: 0 }, never);
    await time.run(2);
    assert.equal((await batch).step, 5);
    const stopped = feed.next({ step: 5, lane: 3, microbatch: 1 }, never);
    await feed.stop();
    await assert.rejects(stopped, { code: 'ABORTED' });
    assert.throws(() => feed.deal(6, [{ lane: 3, rows: encodeRows([ROW]) }]), { code: 'MESSAGE_INVALID' });
  });
});
