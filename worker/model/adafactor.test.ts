import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import { asFloat32, readSafetensors, type SafeTensor } from '../../shared/safetensors.ts';
import { enterBackend, openBackend } from '../engine/tfjs-backend.ts';
import { updateParameter, updateScalars } from './adafactor.ts';
import { slotSpecs } from './optimizer-slots.ts';

interface GoldenCase {
  readonly learning_rates: number[];
  readonly tensors: Record<string, { readonly shape: number[]; readonly factored: boolean }>;
}
const golden = JSON.parse(readFileSync('golden/adafactor/adafactor.json', 'utf8')) as GoldenCase;
const { tensors } = await readSafetensors('golden/adafactor/adafactor.safetensors');

function tensorOf(name: string): SafeTensor {
  const tensor = tensors.get(name);
  assert.ok(tensor !== undefined, name);
  return tensor;
}

const values = (name: string) => asFloat32(tensorOf(name));
const largest = (xs: Float32Array) => xs.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** The gradient of a step: int8 times a power of two, exact. */
function gradientOf(step: number, name: string): Float32Array {
  const scale = values(`grad_scale.${step}.${name}`)[0]!;
  const { buffer, byteOffset, byteLength } = tensorOf(`grad_i8.${step}.${name}`).data;
  return Float32Array.from(new Int8Array(buffer, byteOffset, byteLength), (value) => value * scale);
}

describe('Adafactor', () => {
  for (const backend of ['cpu', 'wasm'] as const)
    for (const [name, { shape, factored }] of Object.entries(golden.tensors))
      test(`follows the golden values of ${name} [${shape.join(', ')}] on ${backend}`, async () => {
        await openBackend(backend);
        await enterBackend(backend);
        const specs = slotSpecs(shape, 'adafactor');
        assert.equal(specs.length, factored ? 2 : 1);
        let parameter = tf.tensor(values(`param.0.${name}`).slice(), shape);
        let slots: tf.Tensor[] = specs.map((spec) => tf.zeros([...spec.shape]));
        let numStates = 0;
        for (const [step, learningRate] of golden.learning_rates.entries()) {
          // The gradient comes as a sum over 4 tokens here: a power of two, so exact.
          const gradientSum = tf.tensor(gradientOf(step, name), shape).mul(4);
          const scalars = updateScalars({ step, learningRate, gradientScale: 1 / 4 });
          const updated = updateParameter(parameter, gradientSum, slots, scalars);
          parameter = updated.parameter;
          slots = [...updated.slots];

          const before = values(`param.${step}.${name}`);
          const expected = values(`param.${step + 1}.${name}`);
          const change = largest(expected.map((value, i) => value - before[i]!));
          const tolerance = 5e-7 * largest(expected) + 1e-5 * change;
          const error = largest((await parameter.data<'float32'>()).map((value, i) => value - expected[i]!));
          assert.ok(error <= tolerance, `step ${step}: parameter off by ${error}, tolerance ${tolerance}`);

          for (const [i, { kind }] of specs.entries()) {
            const state = tensors.get(`${kind}.${step + 1}.${name}`);
            if (state === undefined) continue;
            numStates += 1;
            const found = await slots[i]!.data<'float32'>();
            for (const [j, value] of asFloat32(state).entries())
              assert.ok(Math.abs(found[j]! - value) <= 2e-6 * Math.abs(value), `step ${step}: ${kind}[${j}]`);
          }
        }
        assert.ok(numStates > 0);
      });

  test('factors a matrix whose sides are both at least 128, with one mean a row and one a column', () => {
    assert.deepEqual(slotSpecs([144, 128], 'adafactor'), [
      { kind: 'vr', shape: [128] },
      { kind: 'vc', shape: [144] },
    ]);
    assert.deepEqual(slotSpecs([128, 133], 'adafactor'), [
      { kind: 'vr', shape: [128] },
      { kind: 'vc', shape: [133] },
    ]);
    assert.deepEqual(slotSpecs([127, 4000], 'adafactor'), [{ kind: 'v', shape: [127, 4000] }]);
    assert.deepEqual(slotSpecs([512], 'adafactor'), [{ kind: 'v', shape: [512] }]);
  });
});
