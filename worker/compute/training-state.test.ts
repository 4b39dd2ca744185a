/** What a worker knows of its state, with an engine and a network that the test plays. Whole copies: worker-state.test.ts. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import {
  PARAMETERS,
  randomTensors,
  SLOTS,
  writeFixtureCheckpoint,
} from '../../shared/checkpoint/checkpoint.fixture.ts';
import { tensorBytes, type TensorSpec } from '../../shared/checkpoint/shard-plan.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { formOf, nobody } from '../network/network-session.fixture.ts';
import type { NetworkRequest } from '../network/network-messages.ts';
import { initialiseParameters } from '../model/initialise.ts';
import type { StateTensors } from '../state/state-pieces.ts';
import { loadState } from './load-state.ts';
import { TrainingState } from './training-state.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-training-state-'));
after(() => rmSync(root, { recursive: true }));
const never = new AbortController().signal;
const SEED = 3;
const parameters = PARAMETERS.map((spec) => ({
  ...spec,
  initializer: { kind: 'normal' as const, standardDeviation: 1 },
}));

const copyInto = (into: ReadonlyMap<string, Float32Array>, from: ReadonlyMap<string, Float32Array>): void => {
  for (const [name, values] of into) values.set(from.get(name)!);
};
const zeros = (specs: readonly TensorSpec[]) =>
  new Map(specs.map((spec) => [spec.name, new Float32Array(tensorBytes(spec) / 4)]));

function make() {
  const held: StateTensors = { parameters: zeros(PARAMETERS), optimizerSlots: zeros(SLOTS) };
  const calls: string[] = [];
  const offers: Extract<NetworkRequest, { kind: 'offer-state' }>[] = [];
  const peers = { parameters: randomTensors(PARAMETERS, 50), optimizerSlots: randomTensors(SLOTS, 51) };
  let copyError: TrainerError | undefined;
  const engine = {
    parameters,
    optimizerSlots: SLOTS,
    load: (loaded: ReadonlyMap<string, Float32Array>, slots: ReadonlyMap<string, Float32Array> | 'zero') => {
      calls.push('load');
      copyInto(held.parameters, loaded);
      if (slots === 'zero') for (const values of held.optimizerSlots.values()) values.fill(0);
      else copyInto(held.optimizerSlots, slots);
      return Promise.resolve();
    },
    readBack: (into: ReadonlyMap<string, Float32Array>, slots: ReadonlyMap<string, Float32Array>) => {
      calls.push('readBack');
      copyInto(into, held.parameters);
      copyInto(slots, held.optimizerSlots);
      return Promise.resolve();
    },
  } as unknown as Engine;
  const state = new TrainingState({
    engine,
    seed: SEED,
    loadState,
    network: {
      post: (request) => {
        if (request.kind === 'offer-state') offers.push(request);
      },
      copyState: (step, into) => {
        calls.push(`copy ${step}`);
        if (copyError !== undefined) return Promise.reject(copyError);
        copyInto(into.parameters, peers.parameters);
        copyInto(into.optimizerSlots, peers.optimizerSlots);
        return Promise.resolve();
      },
    },
  });
  const prepare = (more: Parameters<typeof formOf>[2], signal = never) =>
    state.prepareFor(formOf([nobody], 0, more), 'run', signal);
  return { state, prepare, held, peers, calls, offers, failCopy: (error: TrainerError) => (copyError = error) };
}

const SEEDED = { state: { kind: 'start' as const, checkpoint: null } };

describe('training state', () => {
  test('at first none is held', async () => {
    const { state, prepare } = make();
    assert.deepEqual([state.held, state.step], [null, null]);
    await assert.rejects(prepare({ state: { kind: 'held', step: 0 } }), { code: 'INTERNAL' });
  });

  test('from the seed it is the parameters of the seed and an empty optimizer', async () => {
    const { state, prepare, held, calls } = make();
    assert.equal(await prepare(SEEDED), undefined);
    assert.deepEqual(state.held, { runId: 'run', epoch: 5, step: 0 });
    assert.equal(parameterDigest(held.parameters), parameterDigest(initialiseParameters(parameters, SEED)));
    assert.deepEqual(calls, ['load'], 'nothing is read back that nobody asks for');
  });

  test('from a checkpoint the state is the checkpoint’s, after its step', async () => {
    const checkpoint = await writeFixtureCheckpoint(root, 12);
    const { state, prepare, held } = make();
    const digest = await prepare({ state: { kind: 'start', checkpoint }, firstStep: 13, proveState: true });
    assert.equal(state.step, 12);
    assert.equal(digest, parameterDigest(randomTensors(PARAMETERS, 12)));
    assert.equal(parameterDigest(held.optimizerSlots), parameterDigest(randomTensors(SLOTS, 13)));
  });

  test('a checkpoint of another step is refused, and the state held before stays held', async () => {
    const checkpoint = await writeFixtureCheckpoint(root, 20);
    const { state, prepare } = make();
    await prepare(SEEDED);
    await assert.rejects(prepare({ state: { kind: 'start', checkpoint }, firstStep: 13 }), {
      code: 'CHECKPOINT_MISMATCH',
    });
    assert.equal(state.step, 0);
  });

  test('a held state goes into the next generation as it is, and has its epoch and step from then on', async () => {
    const { state, prepare, calls } = make();
    await prepare(SEEDED);
    state.advance(1);
    calls.length = 0;
    await prepare({ epoch: 6, state: { kind: 'held', step: 1 }, firstStep: 4 });
    assert.deepEqual([state.held, calls], [{ runId: 'run', epoch: 6, step: 3 }, []]);
    await assert.rejects(prepare({ state: { kind: 'held', step: 1 } }), {
      code: 'INTERNAL',
      message: /step 1 expected, step 3 is held/u,
    });
    assert.equal(state.step, 3, 'and is still there');
  });

  test('a state is copied into the engine, and proved without reading it back', async () => {
    const { state, prepare, held, peers, calls } = make();
    const digest = await prepare({ state: { kind: 'peers', ranks: [1] }, firstStep: 8, proveState: true });
    assert.equal(digest, parameterDigest(peers.parameters));
    assert.equal(parameterDigest(held.optimizerSlots), parameterDigest(peers.optimizerSlots));
    assert.deepEqual([calls, state.step], [['copy 7', 'load'], 7]);
  });

  test('a failed copy leaves the held state and the engine untouched', async () => {
    const { state, prepare, calls, failCopy } = make();
    await prepare(SEEDED);
    calls.length = 0;
    failCopy(new TrainerError('ABORTED', 'aborted'));
    await assert.rejects(prepare({ state: { kind: 'peers', ranks: [1] } }), { code: 'ABORTED' });
    assert.deepEqual([state.step, calls], [0, ['copy 0']]);
  });

  test('the offered state does not change while the engine continues', async () => {
    const { state, prepare, held, offers, calls } = make();
    await prepare(SEEDED);
    const before = parameterDigest(held.parameters);
    calls.length = 0;
    const digest = await prepare({ state: { kind: 'held', step: 0 }, receivers: [1, 2], proveState: true });
    for (const values of held.parameters.values()) values.fill(9);
    assert.deepEqual(calls, ['readBack'], 'once for both');
    assert.deepEqual([offers.length, offers[0]!.step, digest], [1, 0, before]);
    assert.equal(parameterDigest(offers[0]!.tensors.parameters), before);
    assert.notEqual(await state.parameterDigest(), before);
  });

  test('it advances step by step, and a spoiled one is none', async () => {
    const { state, prepare } = make();
    assert.throws(() => state.advance(1), { code: 'INTERNAL' });
    await prepare(SEEDED);
    state.advance(1);
    state.advance(2);
    assert.throws(() => state.advance(4), { code: 'INTERNAL' });
    assert.equal(state.step, 2);
    state.invalidate();
    assert.equal(state.held, null);
  });
});
