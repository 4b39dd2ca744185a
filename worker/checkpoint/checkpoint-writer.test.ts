import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { PARAMETERS, PLAN, SLOTS } from '../../shared/checkpoint/checkpoint.fixture.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { asFloat32, readSafetensors } from '../../shared/safetensors.ts';
import type { Engine } from '../engine/engine.ts';
import { CheckpointWriter, type SaveRequest } from './checkpoint-writer.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-checkpoint-writer-'));
after(() => rmSync(root, { recursive: true }));
const never = new AbortController().signal;

const requestOf = (): SaveRequest => ({
  folder: mkdtempSync(join(root, 'case-')),
  writer: 0,
  numWriters: 1,
  maxShardBytes: 300,
});

/** An engine whose every value is the same number. */
function makeEngine(): { engine: Engine; set: (value: number) => void } {
  let value = 0;
  const fill = (arrays: ReadonlyMap<string, Float32Array>): void => {
    for (const array of arrays.values()) array.fill(value);
  };
  const readBack: Engine['readBack'] = (parameters, slots) => {
    fill(parameters);
    fill(slots);
    return Promise.resolve();
  };
  const engine = { parameters: PARAMETERS, optimizerSlots: SLOTS, readBack } as unknown as Engine;
  return { engine, set: (next) => (value = next) };
}

/** The one number that all tensors of the folder hold. */
async function valueIn(folder: string): Promise<number[]> {
  const values = new Set<number>();
  for (const file of readdirSync(folder))
    for (const tensor of (await readSafetensors(join(folder, file))).tensors.values())
      for (const value of asFloat32(tensor)) values.add(value);
  return [...values];
}

describe('checkpoint writer', { timeout: 240_000 }, () => {
  test('the files hold the state of the moment save resolved, whatever the engine does after it', async () => {
    const { engine, set } = makeEngine();
    const writer = new CheckpointWriter(engine);
    const request = requestOf();
    set(4);
    const { written } = await writer.save(request, never);
    set(5);
    const { files, paramDigest } = await written;
    assert.deepEqual(files.map(({ file }) => file).sort(), PLAN.map(({ file }) => file).sort());
    assert.deepEqual(await valueIn(request.folder), [4]);
    const held = PARAMETERS.map(({ name, shape }) => {
      const length = shape.reduce((a, b) => a * b);
      return [name, new Float32Array(length).fill(4)] as const;
    });
    assert.equal(paramDigest, parameterDigest(new Map(held)));
  });

  test('a second save waits for the first one, whose files do not change', async () => {
    const { engine, set } = makeEngine();
    const writer = new CheckpointWriter(engine);
    const [first, second] = [requestOf(), requestOf()];
    const order: string[] = [];
    set(1);
    const { written } = await writer.save(first, never);
    void written.then(() => order.push('first is written'));
    set(2);
    const next = await writer.save(second, never);
    order.push('second is taken');
    await writer.idle();
    await next.written;
    assert.deepEqual(order, ['first is written', 'second is taken']);
    assert.deepEqual([await valueIn(first.folder), await valueIn(second.folder)], [[1], [2]]);
  });

  test('the wait for an earlier save ends with the signal', async () => {
    const { engine } = makeEngine();
    const writer = new CheckpointWriter(engine);
    const { written } = await writer.save(requestOf(), never);
    await assert.rejects(writer.save(requestOf(), AbortSignal.abort()), { code: 'ABORTED' });
    await written;
  });

  test('an aborted write is ABORTED and ends; the next one is complete', async () => {
    const { engine, set } = makeEngine();
    const writer = new CheckpointWriter(engine);
    const { written } = await writer.save(requestOf(), never);
    const rejected = assert.rejects(written, { code: 'ABORTED' });
    await writer.callOff();
    await rejected;
    set(9);
    const request = requestOf();
    await (
      await writer.save(request, never)
    ).written;
    assert.deepEqual(await valueIn(request.folder), [9]);
    await writer.callOff(); // nothing is under way
  });

  test('a missing folder fails its write, and the next save works', async () => {
    const { engine } = makeEngine();
    const writer = new CheckpointWriter(engine);
    const { written } = await writer.save({ ...requestOf(), folder: join(root, 'nowhere') }, never);
    await assert.rejects(written, { code: 'PATH_UNUSABLE' });
    await (
      await writer.save(requestOf(), never)
    ).written;
  });
});
