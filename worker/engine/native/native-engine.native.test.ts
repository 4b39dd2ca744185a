import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../../../shared/errors.ts';
import { exmixHome } from '../../../shared/exmix-home.ts';
import { findInstalledEngine, type InstalledEngine } from '../../../shared/installed-engine.ts';
import { modelConfigSchema } from '../../../shared/model-config.ts';
import { ADAFACTOR, optimizerSchema } from '../../../shared/optimizer.ts';
import { dropoutKeys } from '../../model/dropout.ts';
import { initialiseParameters } from '../../model/initialise.ts';
import { createEngine } from '../../engine-choice/create-engine.ts';
import type { Batch, Engine, StepOutput } from '../engine.ts';
import { relativeNorm } from '../array-differences.ts';
import { runFixture } from '../../engine-choice/fixture.ts';
import { loadAddon } from './addon/load-addon.ts';
import { createNativeEngine, recordable, type CreateNativeEngineInit } from './create-native-engine.ts';
import { NativeEngine } from './native-engine.ts';
import { GraphSession } from './session/graph-session.ts';
import { loadSessionBinding, type ResultHandle } from './session/session-binding.ts';
import { sessionConfig } from './session/session-config.ts';

const config = modelConfigSchema.parse({
  vocabSize: 320,
  dModel: 128,
  dKv: 32,
  dFf: 256,
  numLayers: 2,
  numDecoderLayers: 2,
  numHeads: 4,
});

async function installedEngine(): Promise<InstalledEngine> {
  const home = exmixHome();
  const installed = await findInstalledEngine(home);
  if (installed !== undefined) return installed;
  throw new TrainerError('ENGINE_UNAVAILABLE', `these tests need a native engine in ${home}: exmix engine install`);
}

/** One process has one number of threads: that of createEngine. */
async function engineWith(init: Partial<CreateNativeEngineInit> = {}): Promise<Engine> {
  const engine = createNativeEngine({
    installed: await installedEngine(),
    config,
    zLoss: 1e-4,
    numThreads: 1,
    device: 'cpu',
    isGpuRequired: false,
    precision: 'float32',
    xla: false,
    allowTf32: false,
    onWarning: (sentence) => assert.fail(sentence),
    ...init,
  });
  await engine.load(initialiseParameters(engine.parameters, 3), 'zero');
  return engine;
}

/** Two segments a row, with padding; ids by arithmetic. */
function exampleBatch(salt = 0, numRows = 4, inputsLength = 24, targetsLength = 12): Batch {
  const ids = (length: number, factor: number) => Int32Array.from({ length }, (_, i) => (i * factor + salt * 13) % 320);
  const segments = (length: number) =>
    Int32Array.from({ length: numRows * length }, (_, i) => {
      const place = (i % length) / length;
      return place < 0.4 ? 1 : place < 0.9 ? 2 : 0;
    });
  return {
    numRows,
    inputsLength,
    targetsLength,
    encoderInputIds: ids(numRows * inputsLength, 37),
    encoderSegmentIds: segments(inputsLength),
    decoderInputIds: ids(numRows * targetsLength, 53),
    decoderSegmentIds: segments(targetsLength),
    labels: ids(numRows * targetsLength, 71).map((label, i) => (i === 7 ? -100 : label)),
  };
}

async function stepOf(engine: Engine, batch: Batch): Promise<{ output: StepOutput; gradients: Float32Array[] }> {
  const gradients: Float32Array[] = [];
  const output = await engine.step(batch, (parameter, gradient) => {
    gradients[parameter] = gradient.slice();
  });
  return { output, gradients };
}

async function stateOf(engine: Engine): Promise<[Map<string, Float32Array>, Map<string, Float32Array>]> {
  const arrays = (specs: readonly { name: string; shape: readonly number[] }[]) =>
    new Map(specs.map(({ name, shape }) => [name, new Float32Array(shape.reduce((a, b) => a * b, 1))]));
  const state: [Map<string, Float32Array>, Map<string, Float32Array>] = [
    arrays(engine.parameters),
    arrays(engine.optimizerSlots),
  ];
  await engine.readBack(...state);
  return state;
}

function sha256(arrays: Iterable<Float32Array>): string {
  const hash = createHash('sha256');
  for (const array of arrays) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return hash.digest('hex');
}

const updateAt = (step: number) => ({ step, learningRate: 0.01, gradientScale: 1 / 30 });

/** What a child process prints: the hash of gradients, and of parameters and state after three updates. */
async function trainAndHash(numThreads: number): Promise<string> {
  const engine = await engineWith({ numThreads });
  const hashes: string[] = [];
  for (let step = 0; step < 3; step++) {
    const { gradients } = await stepOf(engine, exampleBatch(step));
    hashes.push(sha256(gradients));
    await engine.apply(gradients, updateAt(step));
  }
  const [parameters, optimizer] = await stateOf(engine);
  return [...hashes, sha256(parameters.values()), sha256(optimizer.values())].join(' ');
}

const child = process.argv.find((argument) => argument.startsWith('hash:'));
if (child !== undefined) {
  process.stdout.write(await trainAndHash(Number(child.slice('hash:'.length))));
  process.exit(0);
}

before(installedEngine);

describe('the native engine', () => {
  for (const [model, numChecks] of [
    ['t5-tiny-v1_1', 18],
    ['t5-tiny-v1_0', 13],
  ] as const)
    test(`computes ${model} as transformers does: plain, packed, generated, with z-loss`, async () => {
      const report = await runFixture(join('golden', model), 'native');
      assert.deepEqual(
        report.checks.filter(({ passed }) => !passed),
        [],
      );
      assert.equal(report.checks.length, numChecks);
      assert.match(report.fingerprint, /^TensorFlow 2\..*recorded/);
    });

  test('a recorded step equals the eager one, and that of the wasm engine', async () => {
    const recorded = await engineWith();
    const eager = await engineWith({ mode: 'eager' });
    const { engine: wasm } = await createEngine({ name: 'wasm', config, zLoss: 1e-4 });
    await wasm.load(initialiseParameters(wasm.parameters, 3), 'zero');
    for (let step = 0; step < 2; step++) {
      const found = await stepOf(recorded, exampleBatch(step));
      for (const [other, tolerance] of [
        [eager, 1e-6],
        [wasm, 1e-5],
      ] as const) {
        const expected = await stepOf(other, exampleBatch(step));
        const pairs = found.gradients.map((gradient, i) => ({ found: gradient, expected: expected.gradients[i]! }));
        assert.ok(relativeNorm(pairs) <= tolerance, `gradients ${relativeNorm(pairs)}`);
        const losses = { found: found.output.crossEntropy, expected: expected.output.crossEntropy };
        assert.ok(relativeNorm([losses]) <= 1e-6);
        await other.apply(found.gradients, updateAt(step));
      }
      await recorded.apply(found.gradients, updateAt(step));
    }
    const [found] = await stateOf(recorded);
    for (const other of [eager, wasm]) {
      const [expected] = await stateOf(other);
      const pairs = [...found].map(([name, values]) => ({ found: values, expected: expected.get(name)! }));
      assert.ok(relativeNorm(pairs) <= 1e-6, `parameters ${relativeNorm(pairs)}`);
      await other.dispose();
    }
    await recorded.dispose();
  });

  for (const kind of ['adamw', 'adamw-rms'] as const)
    test(`a recorded update of ${kind} equals the eager one, by fused blocks and by plain operations, and that of the wasm engine`, async () => {
      const optimizer = optimizerSchema.parse({ kind, weightDecay: 0.1 });
      const recorded = await engineWith({ optimizer });
      const eager = await engineWith({ optimizer, mode: 'eager' });
      const plain = await engineWith({ optimizer, precision: 'bfloat16' }); // only the passes are in bfloat16
      const { engine: wasm } = await createEngine({ name: 'wasm', config, zLoss: 1e-4, optimizer });
      await wasm.load(initialiseParameters(wasm.parameters, 3), 'zero');
      const others = [eager, plain, wasm];
      for (let step = 0; step < 3; step++) {
        const { gradients } = await stepOf(recorded, exampleBatch(step));
        for (const engine of [recorded, ...others]) await engine.apply(gradients, updateAt(step));
      }
      const [parameters, slots] = await stateOf(recorded);
      for (const other of others) {
        const [expected, expectedSlots] = await stateOf(other);
        for (const [name, found] of [...parameters, ...slots]) {
          const difference = relativeNorm([{ found, expected: (expected.get(name) ?? expectedSlots.get(name))! }]);
          assert.ok(difference <= 1e-6, `${name}: ${difference}`);
        }
      }
      const again = await engineWith({ optimizer });
      await again.load(parameters, slots);
      const { gradients } = await stepOf(recorded, exampleBatch(3));
      for (const engine of [recorded, again]) await engine.apply(gradients, updateAt(3));
      assert.deepEqual(await stateOf(again), await stateOf(recorded));
      for (const engine of [recorded, again, ...others]) await engine.dispose();
    });

  for (const broadcastLength of [false, true])
    test(`with dropout${broadcastLength ? ' shared along the length' : ''} a recorded step has the masks of the eager one and of the wasm engine`, async () => {
      const dropout = { rate: 0.2, broadcastLength };
      const [recorded, eager] = [await engineWith({ dropout }), await engineWith({ dropout, mode: 'eager' })];
      const { engine: wasm } = await createEngine({ name: 'wasm', config, zLoss: 1e-4, dropout });
      await wasm.load(initialiseParameters(wasm.parameters, 3), 'zero');
      const losses: Float32Array[] = [];
      // The keys are fed: the second and third steps run the graph of the first.
      for (const step of [1, 2, 3]) {
        const batch = { ...exampleBatch(), dropoutKeys: dropoutKeys(7, { step, firstRow: 12, numRows: 4 }) };
        const found = await stepOf(recorded, batch);
        losses.push(found.output.crossEntropy);
        for (const [other, tolerance] of [
          [eager, 3e-6],
          [wasm, 1e-5],
        ] as const) {
          const expected = await stepOf(other, batch);
          const pairs = found.gradients.map((gradient, i) => ({ found: gradient, expected: expected.gradients[i]! }));
          assert.ok(relativeNorm(pairs) <= tolerance, `gradients ${relativeNorm(pairs)}`);
          const pair = { found: found.output.crossEntropy, expected: expected.output.crossEntropy };
          assert.ok(relativeNorm([pair]) <= 1e-6, `losses ${relativeNorm([pair])}`);
        }
      }
      assert.ok(relativeNorm([{ found: losses[1]!, expected: losses[0]! }]) > 1e-3, 'another step, other masks');
      const plain = await engineWith();
      assert.deepEqual(await recorded.score(exampleBatch()), await plain.score(exampleBatch()));
      for (const engine of [recorded, eager, wasm, plain]) await engine.dispose();
    });

  test('gives every gradient once, last parameter first, as a view that ends with the call', async () => {
    const engine = await engineWith();
    const views: Float32Array[] = [];
    const order: number[] = [];
    await engine.step(exampleBatch(), (parameter, gradient) => {
      order.push(parameter);
      views.push(gradient);
      assert.ok(gradient.length > 0);
    });
    assert.deepEqual(
      order,
      engine.parameters.map((_, i) => engine.parameters.length - 1 - i),
    );
    assert.ok(views.every(({ length }) => length === 0));
    await engine.dispose();
  });

  test('a failing consumer of gradients ends the step, and the next one works', async () => {
    const engine = await engineWith();
    const { gradients } = await stepOf(engine, exampleBatch());
    for (const failing of [engine.parameters.length - 1, 20, 0])
      await assert.rejects(
        engine.step(exampleBatch(), (parameter) => {
          if (parameter === failing) throw new TrainerError('ABORTED', 'aborted');
        }),
        { code: 'ABORTED' },
      );
    const again = await stepOf(engine, exampleBatch());
    assert.deepEqual(again.gradients, gradients);
    await engine.dispose();
  });

  test('a shape that comes later shares the parameters', async () => {
    const engine = await engineWith();
    const { gradients } = await stepOf(engine, exampleBatch());
    await engine.apply(gradients, updateAt(0));
    const later = await stepOf(engine, exampleBatch(1, 2, 30, 8));
    const [parameters, optimizer] = await stateOf(engine);
    const fresh = await engineWith();
    await fresh.load(parameters, optimizer);
    assert.deepEqual((await stepOf(fresh, exampleBatch(1, 2, 30, 8))).gradients, later.gradients);
    const [one, other] = [await engine.forward(exampleBatch(2)), await fresh.forward(exampleBatch(2))];
    assert.deepEqual(one, other);
    await engine.dispose();
    await fresh.dispose();
  });

  for (const numThreads of [1, 2])
    test(`gives the same bytes in two processes with ${numThreads} threads`, () => {
      const file = fileURLToPath(import.meta.url);
      const run = () =>
        execFileSync(process.execPath, ['--import', 'tsx', file, `hash:${numThreads}`], { encoding: 'utf8' });
      const first = run();
      assert.match(first, /^([0-9a-f]{64} ?){5}$/);
      assert.equal(run(), first);
    });

  test('continues bit for bit from the arrays of readBack', async () => {
    const one = await engineWith();
    await one.apply((await stepOf(one, exampleBatch(1))).gradients, updateAt(0));
    const other = await engineWith();
    await other.load(...(await stateOf(one)));
    for (const engine of [one, other])
      await engine.apply((await stepOf(engine, exampleBatch(2))).gradients, updateAt(1));
    assert.deepEqual(await stateOf(other), await stateOf(one));
    await one.dispose();
    await other.dispose();
  });

  test('keeps its own copy of the loaded arrays', async () => {
    const engine = await engineWith();
    const parameters = initialiseParameters(engine.parameters, 4);
    await engine.load(parameters, 'zero');
    const before = (await stepOf(engine, exampleBatch())).gradients;
    for (const values of parameters.values()) values.fill(Number.NaN);
    assert.deepEqual((await stepOf(engine, exampleBatch())).gradients, before);
    await engine.dispose();
  });

  test('holds as much after 400 steps as after 100', async () => {
    const engine = await engineWith();
    const memory = () => {
      globalThis.gc?.();
      return { rss: process.memoryUsage().rss, held: engine.memory() };
    };
    const gradients = engine.parameters.map(({ shape }) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
    let afterHundred = memory();
    for (let step = 0; step < 400; step++) {
      if (step === 100) afterHundred = memory();
      await engine.step(exampleBatch(step), (parameter, gradient) => {
        gradients[parameter]!.set(gradient);
      });
      await engine.apply(gradients, updateAt(step));
      await new Promise(setImmediate); // as between the steps of a worker: Node forgets views in a turn of its loop
    }
    const end = memory();
    assert.deepEqual(end.held, afterHundred.held);
    assert.ok(end.rss < 1.05 * afterHundred.rss, `${afterHundred.rss} B, then ${end.rss} B`);
    await engine.dispose();
  });

  test('a graph with other results is refused with a warning, and eager continues', async () => {
    const { sessionAddonPath, addonPath } = await installedEngine();
    const addon = loadAddon({ addonPath, numThreads: 1, device: 'cpu', allowTf32: false, xla: false });
    const binding = loadSessionBinding(sessionAddonPath);
    const warnings: string[] = [];
    const lying = {
      ...binding,
      view: (result: ResultHandle) => {
        const copy = binding.view(result).slice(0);
        if (warnings.length === 0) new Float32Array(copy)[0]! += 1;
        return copy;
      },
    };
    const reference = await engineWith({ mode: 'eager' });
    const engine = new NativeEngine({
      dropout: { rate: 0, broadcastLength: false },
      description: reference.description,
      backend: recordable(addon),
      session: new GraphSession(lying, sessionConfig({ numThreads: 1, xla: false })),
      config,
      zLoss: 1e-4,
      optimizer: ADAFACTOR,
      precision: 'float32',
      fusesBlocks: false,
      onWarning: (sentence) => warnings.push(sentence),
    });
    const before = engine.memory();
    await engine.load(initialiseParameters(engine.parameters, 3), 'zero');
    const { gradients } = await stepOf(engine, exampleBatch());
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /step-4x24x12 is refused, the engine continues eagerly: .* from eager/);
    assert.deepEqual(gradients, (await stepOf(reference, exampleBatch())).gradients);
    for (const one of [engine, reference]) await one.apply(gradients, updateAt(0));
    assert.deepEqual(await stateOf(engine), await stateOf(reference));
    await reference.dispose();
    await engine.dispose();
    assert.ok(engine.memory().numTensors < before.numTensors);
  });

  test('products in bfloat16 stay near float32', async () => {
    const [exact, narrow] = [await engineWith(), await engineWith({ precision: 'bfloat16' })];
    const [expected, found] = [await stepOf(exact, exampleBatch()), await stepOf(narrow, exampleBatch())];
    const pairs = found.gradients.map((gradient, i) => ({ found: gradient, expected: expected.gradients[i]! }));
    const difference = relativeNorm(pairs);
    assert.ok(difference > 1e-4 && difference < 3e-2, `${difference}`);
    assert.notEqual(narrow.description.fingerprint, exact.description.fingerprint);
    await exact.dispose();
    await narrow.dispose();
  });

  test('refuses invalid input, and stays usable', async () => {
    const engine = await engineWith();
    const noop = () => undefined;
    const encoderInputIds = exampleBatch().encoderInputIds.with(3, 320);
    await assert.rejects(engine.step({ ...exampleBatch(), encoderInputIds }, noop), { code: 'CONFIG_INVALID' });
    await assert.rejects(engine.load(new Map(), 'zero'), { code: 'CHECKPOINT_MISMATCH' });
    await assert.rejects(engine.apply([], updateAt(0)), { code: 'INTERNAL' });
    const { gradients } = await stepOf(engine, exampleBatch());
    const wrongSize = gradients.with(3, new Float32Array(5));
    await assert.rejects(engine.apply(wrongSize, updateAt(0)), {
      code: 'INTERNAL',
      message: /expected \d+ B, got 20 B/,
    });
    await engine.apply(gradients, updateAt(0));
    await engine.dispose();
    await engine.dispose();
    await assert.rejects(engine.step(exampleBatch(), noop), { code: 'INTERNAL' });
    await assert.rejects(engine.load(new Map(), 'zero'), { code: /CHECKPOINT_MISMATCH|INTERNAL/ });
  });
});
