import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { TINY_T5, writeModelCheckpoint, writeModelFolder } from '../model/model-folder.fixture.ts';
import { optimizerSlots } from '../model/optimizer-slots.ts';
import { parameterSpecs } from '../model/parameters.ts';
import { checkDigests, readInitialState } from './initial-state.ts';
import { loadState } from './load-state.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-initial-state-'));
after(() => rmSync(root, { recursive: true }));
const { signal } = new AbortController();
const specs = parameterSpecs(TINY_T5);
const engine = { parameters: specs, optimizerSlots: optimizerSlots(specs, 'adafactor') };

describe('the state that a run with init begins with', () => {
  test('a T5 of Hugging Face gives its parameters and a fresh optimizer', async () => {
    const folder = join(root, 'hf');
    const parameters = await writeModelFolder(folder, 5);
    const state = await readInitialState(folder, 'fresh', signal);
    assert.deepEqual(state.parameters, parameters);
    assert.equal(state.optimizer, 'zero');
    assert.deepEqual(state.digests, { paramDigest: parameterDigest(parameters) });
    assert.deepEqual(state.config, TINY_T5);
  });

  test('keep is refused for a folder without an optimizer state', async () => {
    const folder = join(root, 'hf-keep');
    await writeModelFolder(folder, 5);
    await assert.rejects(readInitialState(folder, 'keep', signal), { code: 'CONFIG_INVALID', message: /use fresh/u });
  });

  test('a checkpoint gives its optimizer state, and the count of its updates, only with keep', async () => {
    const { path, parameters, optimizer } = await writeModelCheckpoint(root, 12);
    const fresh = await readInitialState(path, 'fresh', signal);
    assert.deepEqual([fresh.optimizer, fresh.digests.optimizerStep], ['zero', undefined]);
    const kept = await readInitialState(path, 'keep', signal);
    assert.deepEqual(kept.parameters, parameters);
    assert.deepEqual(kept.optimizer, optimizer);
    assert.deepEqual(kept.digests, {
      paramDigest: parameterDigest(parameters),
      optimizerDigest: parameterDigest(optimizer),
      optimizerStep: 12,
    });
  });

  test('a checkpoint of a run that began with a kept state counts the updates of both runs', async () => {
    const init = { from: '/a', optimizer: 'keep' as const, optimizerStep: 100 };
    const { path } = await writeModelCheckpoint(root, 13, { config: { init } });
    assert.equal((await readInitialState(path, 'keep', signal)).digests.optimizerStep, 113);
  });

  test('a damaged checkpoint is refused', async () => {
    const { path } = await writeModelCheckpoint(root, 14);
    const file = join(path, 'model.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(file, bytes);
    await assert.rejects(readInitialState(path, 'fresh', signal), { code: 'CHECKPOINT_CORRUPT' });
  });

  test('a checkpoint whose parameters are not those of its record is refused', async () => {
    const { path } = await writeModelCheckpoint(root, 15, { paramDigest: 'ab'.repeat(32) });
    await assert.rejects(readInitialState(path, 'fresh', signal), {
      code: 'CHECKPOINT_CORRUPT',
      message: /expected parameters with digest abab/u,
    });
  });

  test('another digest than the run begins with is named', async () => {
    const folder = join(root, 'hf-changed');
    await writeModelFolder(folder, 6);
    const state = await readInitialState(folder, 'fresh', signal);
    checkDigests(folder, state, state.digests);
    assert.throws(() => checkDigests(folder, state, { paramDigest: 'c'.repeat(64) }), {
      code: 'CHECKPOINT_MISMATCH',
      message: /expected paramDigest cccc.*has changed since the run began/u,
    });
    assert.throws(() => checkDigests(folder, state, { optimizerStep: 3 }), {
      message: /optimizerStep 3 .*found none/u,
    });
  });

  test('a worker loads it at the beginning of the run, and verifies its digest', async () => {
    const { path, parameters, optimizer } = await writeModelCheckpoint(root, 16);
    const { digests } = await readInitialState(path, 'keep', signal);
    const init = { from: root, optimizer: 'keep' as const, folder: path, ...digests };
    const beginning = { engine, seed: 3, init, checkpoint: null, step: 0, signal };
    const loaded = await loadState(beginning);
    assert.deepEqual(loaded.parameters, parameters);
    assert.deepEqual(loaded.optimizer, optimizer);
    const changed = { ...beginning, init: { ...init, optimizerDigest: 'd'.repeat(64) } };
    await assert.rejects(loadState(changed), {
      code: 'CHECKPOINT_MISMATCH',
      message: /expected optimizerDigest dddd/u,
    });
    const { path: later } = await writeModelCheckpoint(root, 17);
    assert.notDeepEqual((await loadState({ ...beginning, checkpoint: later, step: 17 })).parameters, parameters);
  });

  test('reading is aborted by the signal', async () => {
    await assert.rejects(readInitialState(root, 'fresh', AbortSignal.abort()), { code: 'ABORTED' });
  });
});
