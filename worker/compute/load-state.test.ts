import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import {
  PARAMETERS,
  randomTensors,
  SLOTS,
  writeFixtureCheckpoint,
} from '../../shared/checkpoint/checkpoint.fixture.ts';
import { initialiseParameters } from '../model/initialise.ts';
import { loadState, type LoadStateInit } from './load-state.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-load-state-'));
after(() => rmSync(root, { recursive: true }));

const engine: LoadStateInit['engine'] = {
  parameters: PARAMETERS.map((spec) => ({ ...spec, initializer: { kind: 'normal', standardDeviation: 0.5 } })),
  optimizerSlots: SLOTS.map((spec) => ({ ...spec })),
};
const base = { engine, seed: 3, checkpoint: null, step: 0, signal: new AbortController().signal };
const plain = (tensors: ReadonlyMap<string, Float32Array>) =>
  new Map([...tensors].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, values]) => [name, [...values]]));

describe('starting state', () => {
  test('without a checkpoint it is made from the seed, with an empty optimizer', async () => {
    const state = await loadState(base);
    assert.equal(state.optimizer, 'zero');
    assert.deepEqual(state.parameters, initialiseParameters(engine.parameters, 3));
    assert.notDeepEqual((await loadState({ ...base, seed: 4 })).parameters, state.parameters);
  });

  test('from a checkpoint the state is the checkpoint’s', async () => {
    const checkpoint = await writeFixtureCheckpoint(root, 12);
    const { parameters, optimizer } = await loadState({ ...base, checkpoint, step: 12 });
    assert.deepEqual(plain(parameters), plain(randomTensors(PARAMETERS, 12)));
    assert.ok(optimizer !== 'zero');
    assert.deepEqual(plain(optimizer), plain(randomTensors(SLOTS, 13)));
  });

  test('a checkpoint of another step, of another model or with a flipped bit is refused', async () => {
    const checkpoint = await writeFixtureCheckpoint(root, 20);
    await assert.rejects(loadState({ ...base, checkpoint, step: 21 }), {
      code: 'CHECKPOINT_MISMATCH',
      message: /from step 21, the checkpoint is of step 20/u,
    });
    const fewer = { ...engine, optimizerSlots: engine.optimizerSlots.slice(1) };
    await assert.rejects(loadState({ ...base, engine: fewer, checkpoint, step: 20 }), { code: 'CHECKPOINT_MISMATCH' });
    const file = join(
      checkpoint,
      readdirSync(checkpoint).find((name) => name.startsWith('optimizer'))!,
    );
    const bytes = readFileSync(file);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(file, bytes);
    await assert.rejects(loadState({ ...base, checkpoint, step: 20 }), { code: 'CHECKPOINT_CORRUPT' });
  });

  test('reading is aborted by the signal', async () => {
    const checkpoint = await writeFixtureCheckpoint(root, 30);
    const signal = AbortSignal.abort();
    await assert.rejects(loadState({ ...base, checkpoint, step: 30, signal }), { code: 'ABORTED' });
  });
});
