import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { optimizerSchema } from '../../shared/optimizer.ts';
import { dropoutKeys } from '../model/dropout.ts';
import { initialiseParameters } from '../model/initialise.ts';
import { createEngine } from '../engine-choice/create-engine.ts';
import { relativeNorm } from './array-differences.ts';
import type { Batch, Engine } from './engine.ts';

const BACKENDS = ['wasm', 'cpu'] as const;
const config = modelConfigSchema.parse({
  vocabSize: 160,
  dModel: 128,
  dKv: 8,
  dFf: 130,
  numLayers: 2,
  numDecoderLayers: 1,
  numHeads: 2,
});

/** Two packed rows with padding; ids by arithmetic. */
function exampleBatch(salt = 0): Batch {
  const [numRows, inputsLength, targetsLength] = [2, 10, 6];
  const ids = (length: number, factor: number) => Int32Array.from({ length }, (_, i) => (i * factor + salt * 13) % 160);
  return {
    numRows,
    inputsLength,
    targetsLength,
    encoderInputIds: ids(20, 37),
    encoderSegmentIds: Int32Array.of(1, 1, 1, 1, 2, 2, 2, 3, 3, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0),
    decoderInputIds: ids(12, 53),
    decoderSegmentIds: Int32Array.of(1, 1, 2, 2, 3, 0, 1, 1, 1, 0, 0, 0),
    labels: ids(12, 71).map((label, i) => (i === 7 ? -100 : label)),
  };
}

async function loadedEngine(name: string): Promise<Engine> {
  const { engine } = await createEngine({ name, config, zLoss: 1e-4 });
  await engine.load(initialiseParameters(engine.parameters, 3), 'zero');
  return engine;
}

/** The batch of `exampleBatch` in a step with dropout. */
function droppedBatch(step: number, salt = 0): Batch {
  return { ...exampleBatch(salt), dropoutKeys: dropoutKeys(7, { step, firstRow: 0, numRows: 2 }) };
}

const ignore = () => undefined;

async function engineWithDropout(name: string, broadcastLength = false): Promise<Engine> {
  const { engine } = await createEngine({ name, config, zLoss: 1e-4, dropout: { rate: 0.3, broadcastLength } });
  await engine.load(initialiseParameters(engine.parameters, 3), 'zero');
  return engine;
}

async function gradientsOf(engine: Engine, batch: Batch): Promise<Float32Array[]> {
  const gradients: Float32Array[] = [];
  await engine.step(batch, (parameter, gradient) => {
    gradients[parameter] = gradient.slice();
  });
  return gradients;
}

function sha256(arrays: Iterable<Float32Array>): string {
  const hash = createHash('sha256');
  for (const array of arrays) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return hash.digest('hex');
}

function emptyState(engine: Engine): [Map<string, Float32Array>, Map<string, Float32Array>] {
  const arrays = (specs: readonly { name: string; shape: readonly number[] }[]) =>
    new Map(specs.map(({ name, shape }) => [name, new Float32Array(shape.reduce((a, b) => a * b, 1))]));
  return [arrays(engine.parameters), arrays(engine.optimizerSlots)];
}

async function stateOf(engine: Engine): Promise<[Map<string, Float32Array>, Map<string, Float32Array>]> {
  const state = emptyState(engine);
  await engine.readBack(...state);
  return state;
}

/** The header of worker/model/adamw.ts in float64. @param moments of each entry */
function adamwByHand(
  values: Float32Array,
  gradientSum: Float32Array,
  moments: Map<number, [number, number]>,
  { kind, step, decays }: { kind: 'adamw' | 'adamw-rms'; step: number; decays: boolean },
): void {
  const [learningRate, weightDecay, beta1, beta2, epsilon] = [0.02, decays ? 0.5 : 0, 0.9, 0.9, 1e-3];
  const [c1, c2] = [1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)];
  const size = Math.max(1e-3, Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length));
  for (const [i, sum] of gradientSum.entries()) {
    const g = sum / 7;
    const [oldM, oldV] = moments.get(i) ?? [0, 0];
    const [m, v] = [beta1 * oldM + (1 - beta1) * g, beta2 * oldV + (1 - beta2) * g * g];
    moments.set(i, [m, v]);
    const keep = 1 - learningRate * weightDecay;
    if (kind === 'adamw') values[i] = values[i]! * keep - ((learningRate / c1) * m) / (Math.sqrt(v / c2) + epsilon);
    else
      values[i] = (values[i]! - (((learningRate * Math.sqrt(c2)) / c1) * size * m) / (Math.sqrt(v) + epsilon)) * keep;
  }
}

/** What a test child process prints: the hash of gradients, and of parameters after two updates. */
async function trainAndHash(name: string): Promise<string> {
  const engine = await loadedEngine(name);
  const hashes: string[] = [];
  for (let step = 0; step < 2; step++) {
    const gradients = await gradientsOf(engine, exampleBatch(step));
    hashes.push(sha256(gradients));
    await engine.apply(gradients, { step, learningRate: 0.01, gradientScale: 1 / 7 });
  }
  const [parameters, optimizer] = await stateOf(engine);
  await engine.dispose();
  return [...hashes, sha256(parameters.values()), sha256(optimizer.values())].join(' ');
}

const [, , child] = process.argv;
if (child?.startsWith('hash:') === true) {
  process.stdout.write(await trainAndHash(child.slice('hash:'.length)));
  process.exit(0);
}

for (const name of BACKENDS)
  describe(`engine ${name}`, () => {
    test('gives every gradient once, last parameter first, of the sum of the losses', async () => {
      const engine = await loadedEngine(name);
      const order: number[] = [];
      const output = await engine.step(exampleBatch(), (parameter, gradient) => {
        order.push(parameter);
        const size = engine.parameters[parameter]!.shape.reduce((a, b) => a * b, 1);
        assert.equal(gradient.length, size);
        assert.ok(gradient.some((value) => value !== 0));
      });
      assert.deepEqual(
        order,
        engine.parameters.map((_, i) => engine.parameters.length - 1 - i),
      );
      assert.equal(output.crossEntropy.length, 12);
      const { decoderSegmentIds, labels } = exampleBatch();
      for (let i = 0; i < 12; i++) {
        const hasLoss = decoderSegmentIds[i]! > 0 && labels[i]! >= 0;
        assert.equal(output.crossEntropy[i]! > 0, hasLoss);
        assert.equal(output.zLoss[i]! > 0, hasLoss);
      }
      await engine.dispose();
    });

    test('a gradient is the slope of the loss', async () => {
      const engine = await loadedEngine(name);
      const batch = exampleBatch();
      const gradients = await gradientsOf(engine, batch);
      const parameters = initialiseParameters(engine.parameters, 3);
      const lossAt = async (step: number) => {
        const moved = new Map(
          engine.parameters.map(({ name: key }, i) => [
            key,
            parameters.get(key)!.map((value, j) => value - step * gradients[i]![j]!),
          ]),
        );
        await engine.load(moved, 'zero');
        const { crossEntropy, zLoss } = await engine.step(batch, () => undefined);
        return [...crossEntropy, ...zLoss].reduce((sum, value) => sum + value, 0);
      };
      const slope = ((await lossAt(-2e-5)) - (await lossAt(2e-5))) / 4e-5;
      const expected = gradients.flat().reduce((sum, g) => sum + g.reduce((s, value) => s + value * value, 0), 0);
      assert.ok(Math.abs(slope - expected) < 0.02 * expected, `slope ${slope}, |gradient|² ${expected}`);
      await engine.dispose();
    });

    for (const broadcastLength of [false, true])
      test(`with dropout a gradient is the slope of the loss under the same masks${broadcastLength ? ', shared along the length' : ''}`, async () => {
        const engine = await engineWithDropout(name, broadcastLength);
        const batch = droppedBatch(1);
        const gradients = await gradientsOf(engine, batch);
        const parameters = initialiseParameters(engine.parameters, 3);
        const lossAt = async (step: number) => {
          const moved = [...parameters].map(([key, values], i): [string, Float32Array] => [
            key,
            values.map((value, j) => value - step * gradients[i]![j]!),
          ]);
          await engine.load(new Map(moved), 'zero');
          const { crossEntropy, zLoss } = await engine.step(batch, () => undefined);
          return [...crossEntropy, ...zLoss].reduce((sum, value) => sum + value, 0);
        };
        const slope = ((await lossAt(-2e-5)) - (await lossAt(2e-5))) / 4e-5;
        const expected = gradients.reduce((sum, g) => sum + g.reduce((s, value) => s + value * value, 0), 0);
        assert.ok(Math.abs(slope - expected) < 0.02 * expected, `slope ${slope}, |gradient|² ${expected}`);
        await engine.dispose();
      });

    test('dropout acts in a step alone, by the keys of its rows, and leaves no tensor', async () => {
      const [plain, dropped] = [await loadedEngine(name), await engineWithDropout(name)];
      const hashOf = async (batch: Batch) => sha256(await gradientsOf(dropped, batch));
      const hash = await hashOf(droppedBatch(1));
      const { numTensors } = dropped.memory();
      assert.equal(await hashOf(droppedBatch(1)), hash, 'the same keys, the same bits');
      assert.notEqual(await hashOf(droppedBatch(2)), hash);
      assert.equal(dropped.memory().numTensors, numTensors);
      assert.notEqual(sha256(await gradientsOf(plain, droppedBatch(1))), hash);
      assert.deepEqual(await dropped.score(exampleBatch()), await plain.score(exampleBatch()));
      assert.deepEqual(await dropped.forward(exampleBatch()), await plain.forward(exampleBatch()));
      const { dropoutKeys: unread, ...plainBatch } = droppedBatch(1);
      assert.deepEqual(
        await plain.step({ ...plainBatch, dropoutKeys: unread! }, ignore),
        await plain.step(plainBatch, ignore),
      );
      await assert.rejects(dropped.step(exampleBatch(), ignore), { code: 'INTERNAL', message: /keys of its rows/u });
      for (const engine of [plain, dropped]) await engine.dispose();
    });

    test('padding and other segments change nothing', async () => {
      const engine = await loadedEngine(name);
      const batch = exampleBatch();
      const reference = await engine.step(batch, () => undefined);
      const encoderInputIds = batch.encoderInputIds.map((id, i) => (batch.encoderSegmentIds[i] === 0 ? 99 : id));
      // Segment 3 of row 0 becomes other text; segments 1 and 2 must not see it.
      for (const i of [7, 8]) encoderInputIds[i] = 5;
      const changed = await engine.step({ ...batch, encoderInputIds }, () => undefined);
      for (const i of [0, 1, 2, 3, 6, 8]) assert.equal(changed.crossEntropy[i], reference.crossEntropy[i]);
      assert.notEqual(changed.crossEntropy[4], reference.crossEntropy[4]);
      await engine.dispose();
    });

    test('holds as many tensors after step 20 as after step 3, and none after dispose', async () => {
      const { engine } = await createEngine({ name, config, zLoss: 1e-4 });
      const atStart = engine.memory();
      await engine.load(initialiseParameters(engine.parameters, 3), 'zero');
      let afterThree = engine.memory();
      for (let step = 1; step <= 20; step++) {
        const gradients = await gradientsOf(engine, exampleBatch(step));
        await engine.apply(gradients, { step: step - 1, learningRate: 0.01, gradientScale: 1 / 7 });
        if (step === 3) afterThree = engine.memory();
      }
      await engine.forward(exampleBatch());
      assert.deepEqual(engine.memory(), afterThree);
      await engine.dispose();
      assert.deepEqual(engine.memory(), atStart);
    });

    test('gives the same bytes for the same step, and in another process', async () => {
      const here = await trainAndHash(name);
      assert.equal(await trainAndHash(name), here);
      const file = fileURLToPath(import.meta.url);
      const there = execFileSync(process.execPath, ['--import', 'tsx', file, `hash:${name}`], { encoding: 'utf8' });
      assert.equal(there, here);
    });

    test('continues bit for bit from the arrays of readBack', async () => {
      const one = await loadedEngine(name);
      const update = { step: 0, learningRate: 0.01, gradientScale: 1 / 7 };
      await one.apply(await gradientsOf(one, exampleBatch(1)), update);
      const [parameters, optimizer] = await stateOf(one);
      const { engine: other } = await createEngine({ name, config, zLoss: 1e-4 });
      await other.load(parameters, optimizer);
      for (const engine of [one, other])
        await engine.apply(await gradientsOf(engine, exampleBatch(2)), { ...update, step: 1 });
      assert.deepEqual(await stateOf(other), await stateOf(one));
      await one.dispose();
      await other.dispose();
    });

    for (const kind of ['adamw', 'adamw-rms'] as const)
      test(`${kind} updates as its rule in float64, spares norms and biases of decay, and continues from readBack`, async () => {
        const optimizer = optimizerSchema.parse({ kind, weightDecay: 0.5, beta2: 0.9, epsilon: 1e-3 });
        const open = async () => (await createEngine({ name, config, zLoss: 1e-4, optimizer })).engine;
        const engine = await open();
        assert.deepEqual(engine.optimizerSlots.slice(0, 4), [
          { name: 'shared.weight.m', shape: [160, 128] },
          { name: 'shared.weight.v', shape: [160, 128] },
          { name: 'encoder.block.0.layer.0.layer_norm.weight.m', shape: [128] },
          { name: 'encoder.block.0.layer.0.layer_norm.weight.v', shape: [128] },
        ]);
        await engine.load(initialiseParameters(engine.parameters, 3), 'zero');
        const expected = new Map(initialiseParameters(engine.parameters, 3));
        const moments = new Map(engine.parameters.map(({ name: of }) => [of, new Map<number, [number, number]>()]));
        for (let step = 0; step < 2; step++) {
          const gradients = await gradientsOf(engine, exampleBatch(step));
          await engine.apply(gradients, { step, learningRate: 0.02, gradientScale: 1 / 7 });
          for (const [i, { name: of }] of engine.parameters.entries())
            adamwByHand(expected.get(of)!, gradients[i]!, moments.get(of)!, {
              ...{ kind, step, decays: !/layer_norm|bias/u.test(of) },
            });
        }
        const [parameters, slots] = await stateOf(engine);
        const pairs = [...parameters].map(([of, found]) => ({ found, expected: expected.get(of)! }));
        assert.ok(relativeNorm(pairs) < 1e-6, `${relativeNorm(pairs)}`);
        for (const [of, found] of parameters) {
          const difference = relativeNorm([{ found, expected: expected.get(of)! }]);
          assert.ok(difference < 2e-6, `${of}: ${difference}`);
        }
        const other = await open();
        await other.load(parameters, slots);
        const gradients = await gradientsOf(engine, exampleBatch(2));
        for (const one of [engine, other])
          await one.apply(gradients, { step: 2, learningRate: 0.02, gradientScale: 1 });
        assert.deepEqual(await stateOf(other), await stateOf(engine));
        assert.notDeepEqual((await stateOf(engine))[0], parameters);
        await engine.dispose();
        await other.dispose();
      });

    test('training lowers the loss', async () => {
      const engine = await loadedEngine(name);
      const losses: number[] = [];
      for (let step = 0; step < 8; step++) {
        const gradients: Float32Array[] = [];
        const { crossEntropy } = await engine.step(exampleBatch(), (i, gradient) => {
          gradients[i] = gradient.slice();
        });
        losses.push(crossEntropy.reduce((sum, value) => sum + value, 0));
        await engine.apply(gradients, { step, learningRate: 0.02, gradientScale: 1 / 7 });
      }
      assert.ok(losses.at(-1)! < 0.7 * losses[0]!, losses.join(' '));
      await engine.dispose();
    });

    test('refuses ids beyond the vocabulary, arrays of wrong size and wrong names, and stays usable', async () => {
      const engine = await loadedEngine(name);
      const batch = exampleBatch();
      const encoderInputIds = batch.encoderInputIds.with(3, 160);
      const noop = () => undefined;
      await assert.rejects(engine.step({ ...batch, encoderInputIds }, noop), {
        code: 'CONFIG_INVALID',
        message: /encoderInputIds\[3\] is token 160/,
      });
      await assert.rejects(engine.step({ ...batch, labels: new Int32Array(3) }, noop), { code: 'INTERNAL' });
      const parameters = initialiseParameters(engine.parameters, 3);
      const { name: firstName } = engine.parameters[0]!;
      const broken: Map<string, Float32Array>[] = [
        new Map([...parameters].slice(1)),
        new Map([...parameters, ['odd', new Float32Array(1)]]),
        new Map([...parameters, [firstName, new Float32Array(1)]]),
      ];
      for (const wrong of broken) await assert.rejects(engine.load(wrong, 'zero'), { code: 'CHECKPOINT_MISMATCH' });
      await assert.rejects(engine.load(parameters, new Map()), { code: 'CHECKPOINT_MISMATCH' });
      await engine.step(batch, noop);
      await engine.dispose();
      await assert.rejects(engine.step(batch, noop), { code: 'INTERNAL' });
    });

    test('keeps its own copy of the loaded arrays', async () => {
      const { engine } = await createEngine({ name, config, zLoss: 1e-4 });
      const parameters = initialiseParameters(engine.parameters, 3);
      await engine.load(parameters, 'zero');
      for (const values of parameters.values()) values.fill(Number.NaN);
      const { crossEntropy } = await engine.step(exampleBatch(), () => undefined);
      assert.ok(crossEntropy.every(Number.isFinite));
      await engine.dispose();
    });

    test('describes itself', async () => {
      const { engine, reason } = await createEngine({ name, config, zLoss: 0 });
      assert.equal(engine.description.name, name);
      assert.match(engine.description.fingerprint, /^tfjs 4\.22\.0; .+; V8 \d+\.\d+$/);
      assert.match(reason, new RegExp(name));
      assert.deepEqual(engine.optimizerSlots.slice(0, 3), [
        { name: 'shared.weight.vr', shape: [128] },
        { name: 'shared.weight.vc', shape: [160] },
        { name: 'encoder.block.0.layer.0.layer_norm.weight.v', shape: [128] },
      ]);
    });
  });

test('opening the engines leaves the console and the listeners of the process alone', () => {
  const script = `
    const listeners = () => ['uncaughtException', 'unhandledRejection'].map((event) => process.listenerCount(event)).join();
    const before = listeners();
    const { createEngine } = await import(${JSON.stringify(new URL('../engine-choice/create-engine.ts', import.meta.url).href)});
    const config = JSON.parse(${JSON.stringify(JSON.stringify({ ...config, vocabSize: 8 }))});
    for (const name of ['wasm', 'cpu']) {
      const { engine } = await createEngine({ name, config, zLoss: 0 });
      await engine.load(new Map(engine.parameters.map(({ name, shape }) => [name, new Float32Array(shape.reduce((a, b) => a * b))])), 'zero');
    }
    if (listeners() !== before) process.stdout.write('listeners ' + before + ' became ' + listeners());
  `;
  const args = ['--import', 'tsx', '--input-type=module', '--eval', script];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' });
});
