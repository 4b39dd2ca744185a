import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import type { NodeJSKernelBackend } from '@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js';
import type { Tensor, Tensor1D, Tensor2D, Tensor4D } from '@tensorflow/tfjs';
import { exmixHome } from '../../../../shared/exmix-home.ts';
import { findInstalledEngine } from '../../../../shared/installed-engine.ts';
import { optimizerSchema } from '../../../../shared/optimizer.ts';
import { updateParameter, updateScalars } from '../../../model/adafactor.ts';
import { attention } from '../../../model/attention.ts';
import { crossEntropy } from '../../../model/cross-entropy.ts';
import { countedDropout, dropoutKeys, planMask } from '../../../model/dropout.ts';
import { gatedGelu } from '../../../model/feed-forward.ts';
import {
  fusedAdafactor,
  fusedAdamw,
  fusedBiasedSoftmax,
  fusedCachedAttention,
  fusedCrossEntropy,
  fusedCrossEntropyGradient,
  fusedGeluTimes,
  fusedGeluTimesGradient,
  fusedLikeliestTokens,
  fusedRmsNorm,
  fusedRmsNormGradient,
  fusedSoftmaxGradient,
  multiplyByMask,
  withFusedBlocks,
  withIndependentRows,
} from '../../../model/fused-kernels.ts';
import { slotSpecs } from '../../../model/optimizer-slots.ts';
import { createOptimizer } from '../../../model/optimizer.ts';
import { rmsNorm } from '../../../model/rms-norm.ts';
import { multiplyRows } from '../../mask-kernels.ts';
import { loadAddon, NATIVE_BACKEND } from '../addon/load-addon.ts';
import { installNativeKernels } from '../native-kernels.ts';
import { loadSessionBinding } from '../session/session-binding.ts';

/** Numbers in about [-scale, scale], by arithmetic. */
function numbers(length: number, salt: number, scale = 1): Float32Array {
  return Float32Array.from({ length }, (_, i) => scale * Math.sin(1 + i * 12.9898 + salt * 78.233));
}

function tensor(shape: number[], salt: number, scale = 1): Tensor {
  return tf.tensor(numbers(tf.util.sizeFromShape(shape), salt, scale), shape);
}

let backend: NodeJSKernelBackend;

/** One operation of the addon with one output. */
function runNode(op: string, ...inputs: Tensor[]): Tensor {
  return backend.executeSingleOutput(op, [], inputs);
}

const valuesOf = (x: Tensor) => Array.from(x.dataSync<'float32'>());

/** Largest difference relative to the largest expected value. */
function assertNear(found: Tensor, expected: readonly number[], tolerance = 3e-6): void {
  const values = valuesOf(found);
  assert.equal(values.length, expected.length);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (const [i, value] of values.entries())
    if (!(Math.abs(value - expected[i]!) <= tolerance * largest))
      assert.fail(`${i}: ${value} instead of ${expected[i]}`);
}

/** Rows of numbers in float64. */
function rowsOf(x: Tensor): number[][] {
  const width = x.shape.at(-1)!;
  const values = valuesOf(x);
  return Array.from({ length: values.length / width }, (_, row) => values.slice(row * width, (row + 1) * width));
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const softmaxOf = (row: readonly number[]) => {
  const largest = row.reduce((most, value) => Math.max(most, value));
  const powers = row.map((value) => Math.exp(value - largest));
  const total = sum(powers);
  return powers.map((power) => power / total);
};
const sigmoidOf = (x: number) => 1 / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** The value and the gradients of all inputs, plainly and by blocks: each must be near the other, and the blocks the same twice. */
function compareWithPlain(
  inputs: readonly Tensor[],
  run: (inputs: readonly Tensor[]) => Tensor,
  tolerance = 1e-5,
): void {
  const pass = () => {
    const weight = tensor(run(inputs).shape, 99);
    const { value, grads } = tf.valueAndGrads((...taped: Tensor[]) => tf.sum(tf.mul(run(taped), weight)))([...inputs]);
    return [run(inputs), value, ...grads].map(valuesOf);
  };
  const [plain, fused, again] = [pass(), withFusedBlocks(pass), withFusedBlocks(pass)];
  assert.deepEqual(fused, again);
  for (const [i, values] of plain.entries()) {
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);
    for (const [j, value] of values.entries())
      if (!(Math.abs(fused[i]![j]! - value) <= tolerance * largest))
        assert.fail(`${i}, ${j}: ${fused[i]![j]} and ${value}`);
  }
}

describe('kernels', () => {
  before(async () => {
    const installed = await findInstalledEngine(exmixHome());
    assert.ok(installed !== undefined, 'these tests need an installed engine');
    const { addonPath, sessionAddonPath } = installed;
    const addon = loadAddon({ addonPath, numThreads: 2, device: 'cpu', allowTf32: false, xla: false });
    loadSessionBinding(sessionAddonPath).useKernels(2);
    backend = addon.backend;
    installNativeKernels(backend);
    await tf.setBackend(NATIVE_BACKEND);
  });

  // 700 rows of 130 are several blocks with a part of a vector at the end of each row.
  for (const [numRows, width] of [
    [1, 1],
    [3, 5],
    [4, 16],
    [700, 130],
  ] as const) {
    const shape = [numRows, width];

    test(`RMSNorm of [${numRows}, ${width}]`, () => {
      const [x, dy, weight] = [tensor(shape, 1, 3), tensor(shape, 2), tensor([width], 3)];
      const w = valuesOf(weight);
      const [xs, dys] = [rowsOf(x), rowsOf(dy)];
      const scales = xs.map((row) => 1 / Math.sqrt(sum(row.map((v) => v * v)) / width + 1e-6));
      const y = xs.flatMap((row, m) => row.map((v, i) => v * scales[m]! * w[i]!));
      assertNear(fusedRmsNorm(x as Tensor2D, weight as Tensor1D, 1e-6), y);
      const dx = xs.flatMap((row, m) => {
        const g = row.map((_, i) => dys[m]![i]! * w[i]!);
        const along = sum(row.map((v, i) => g[i]! * v * scales[m]!)) / width;
        return row.map((v, i) => scales[m]! * (g[i]! - v * scales[m]! * along));
      });
      const dWeight = w.map((_, i) => sum(xs.map((row, m) => dys[m]![i]! * row[i]! * scales[m]!)));
      const found = fusedRmsNormGradient(dy as Tensor2D, x as Tensor2D, weight as Tensor1D, 1e-6);
      if (width > 1) assertNear(found[0]!, dx);
      assertNear(found[1]!, dWeight, 1e-5);
      if (width > 1) compareWithPlain([x, weight], ([a, b]) => rmsNorm(a as Tensor2D, b as Tensor1D, 1e-6));
    });

    test(`gated GELU of [${numRows}, ${width}]`, () => {
      const [gate, linear, dOut] = [tensor(shape, 1, 6), tensor(shape, 2), tensor(shape, 3)] as Tensor2D[];
      const [x, l, d] = [gate!, linear!, dOut!].map(valuesOf);
      const gelu = x!.map((v) => v * sigmoidOf(v));
      assertNear(
        fusedGeluTimes(gate!, linear!),
        gelu.map((v, i) => v * l![i]!),
      );
      const slopes = x!.map((v) => {
        const sigmoid = sigmoidOf(v);
        return sigmoid + v * sigmoid * (1 - sigmoid) * 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * v * v);
      });
      const [dGate, dLinear] = fusedGeluTimesGradient(dOut!, gate!, linear!);
      assertNear(
        dGate!,
        slopes.map((slope, i) => slope * d![i]! * l![i]!),
      );
      assertNear(
        dLinear!,
        gelu.map((v, i) => v * d![i]!),
      );
    });

    test(`softmax with a bias of [2, 3, ${numRows}, ${width}]`, () => {
      for (const [B, N] of [
        [2, 3],
        [1, 3],
        [2, 1],
      ] as const) {
        const scores = tensor([2, 3, numRows, width], 1, 5) as Tensor4D;
        const bias = tensor([B, N, numRows, width], 2, 5) as Tensor4D;
        const p = fusedBiasedSoftmax(scores, bias);
        assertNear(p, rowsOf(tf.add(scores, bias)).flatMap(softmaxOf), 1e-5);
        const dP = tensor(p.shape, 3) as Tensor4D;
        const [ps, dPs] = [rowsOf(p), rowsOf(dP)];
        const dLogits = ps.flatMap((row, m) => {
          const along = sum(row.map((v, i) => v * dPs[m]![i]!));
          return row.map((v, i) => v * (dPs[m]![i]! - along));
        });
        if (width > 1) assertNear(fusedSoftmaxGradient(p, dP), dLogits);
      }
    });
  }

  test('attention agrees with plain operations, with a learned bias and with a mask', () => {
    const [x, keys] = [tensor([2 * 5, 12], 1), tensor([2 * 7, 12], 2)];
    const weights = [3, 4, 5, 6].map((salt) => tensor([12, 12], salt, 0.3));
    const masked = numbers(2 * 5 * 7, 7).map((value) => (value > 0.5 ? -1e9 : 0));
    for (const bias of [tensor([2, 3, 5, 7], 8), tf.tensor(masked, [2, 1, 5, 7])])
      compareWithPlain([x, keys, ...weights], ([a, b, q, k, v, o]) =>
        attention(
          a as Tensor2D,
          b as Tensor2D,
          { q: q as Tensor2D, k: k as Tensor2D, v: v as Tensor2D, o: o as Tensor2D },
          bias as Tensor4D,
          3,
        ),
      );
  });

  test('gated feed-forward agrees with plain operations', () => {
    const inputs = [tensor([9, 5], 1), tensor([33, 5], 2), tensor([33, 5], 3), tensor([5, 33], 4)];
    compareWithPlain(inputs, ([x, a, b, c]) => gatedGelu(x as Tensor2D, a as Tensor2D, b as Tensor2D, c as Tensor2D));
  });

  for (const [numRows, vocabulary] of [
    [1, 2],
    [3, 17],
    [5, 40003],
  ] as const)
    test(`cross-entropy of [${numRows}, ${vocabulary}]`, () => {
      const logits = tensor([numRows, vocabulary], 1, 9) as Tensor2D;
      const ids = Int32Array.from({ length: numRows }, (_, i) => (i * 7919) % vocabulary);
      const { loss_M, logZ_M } = fusedCrossEntropy(logits, tf.tensor1d(ids, 'int32'));
      const rows = rowsOf(logits);
      const logZ = rows.map((row) => Math.log(sum(row.map(Math.exp))));
      assertNear(logZ_M, logZ);
      assertNear(
        loss_M,
        logZ.map((value, m) => value - rows[m]![ids[m]!]!),
      );
      const [onSoftmax, onLabel] = [tensor([numRows], 2), tensor([numRows], 3)] as Tensor1D[];
      const found = fusedCrossEntropyGradient({
        logits_MV: logits,
        labels_M: tf.tensor1d(ids, 'int32'),
        logZ_M,
        onSoftmax_M: onSoftmax!,
        onLabel_M: onLabel!,
      });
      const [a, b] = [valuesOf(onSoftmax!), valuesOf(onLabel!)];
      const expected = rows.flatMap((row, m) => softmaxOf(row).map((p, i) => a[m]! * p - (i === ids[m] ? b[m]! : 0)));
      assertNear(found, expected);
      const labels = {
        ids_M: tf.tensor1d(
          ids.map((id, m) => (m === 1 ? -1 : id)),
          'int32',
        ),
        hasLoss_M: tf.tensor1d(Float32Array.from(ids, (_, m) => (m === 1 ? 0 : 1))),
      };
      compareWithPlain([logits], ([x]) => crossEntropy(x as Tensor2D, labels, 1e-2), 2e-5);
    });

  for (const shape of [[19], [7, 33], [128, 128], [130, 300], [1501, 129]])
    test(`Adafactor of [${shape.join(', ')}]`, () => {
      const [parameter, gradient] = [tensor(shape, 1, 0.1), tensor(shape, 2, 30)];
      for (const step of [0, 1000]) {
        const slots = slotSpecs(shape, 'adafactor').map((slot, i) => tf.square(tensor([...slot.shape], 3 + i)));
        const scalars = updateScalars({ step, learningRate: 0.01, gradientScale: 1 / 7 });
        const update = () => updateParameter(parameter, gradient, slots, scalars);
        const [plain, fused, again] = [update(), withFusedBlocks(update), withFusedBlocks(update)];
        assert.deepEqual(valuesOf(fused.parameter), valuesOf(again.parameter));
        const change = (after: Tensor) => tf.sub(after, parameter);
        assertNear(change(fused.parameter), valuesOf(change(plain.parameter)), 1e-4);
        for (const [i, slot] of fused.slots.entries()) assertNear(slot, valuesOf(plain.slots[i]!), 1e-5);
      }
    });

  for (const kind of ['adamw', 'adamw-rms'] as const)
    for (const shape of [[19], [7, 33], [128, 128], [1501, 129]])
      test(`${kind} of [${shape.join(', ')}]`, () => {
        const optimizer = createOptimizer(optimizerSchema.parse({ kind, weightDecay: 0.3 }));
        const [parameter, gradientSum] = [tensor(shape, 1, 0.1), tensor(shape, 2, 30)];
        for (const decays of [false, true])
          for (const step of [0, 1000]) {
            const slots = [tensor(shape, 3), tf.square(tensor(shape, 4))];
            const numbers = optimizer.numbers({ step, learningRate: 0.01, gradientScale: 1 / 7 });
            const scalars = numbers.map((value) => tf.scalar(value));
            const update = () => optimizer.update({ parameter, gradientSum, slots }, scalars, decays);
            const [plain, fused, again] = [update(), withFusedBlocks(update), withFusedBlocks(update)];
            assert.deepEqual(valuesOf(fused.parameter), valuesOf(again.parameter));
            const change = (after: Tensor) => tf.sub(after, parameter);
            assertNear(change(fused.parameter), valuesOf(change(plain.parameter)), 1e-4);
            for (const [i, slot] of fused.slots.entries()) assertNear(slot, valuesOf(plain.slots[i]!), 1e-6);
          }
      });

  for (const [numRows, depth, numOutputs] of [
    [1, 1, 1],
    [3, 5, 2],
    [12, 16, 32],
    [25, 40, 50],
    [300, 515, 33],
  ] as const)
    test(`rows [${numRows}, ${depth}] times [${numOutputs}, ${depth}], each the same bits alone and among others`, () => {
      const [x, w] = [tensor([numRows, depth], 1) as Tensor2D, tensor([numOutputs, depth], 2) as Tensor2D];
      const product = (rows: Tensor2D) => withIndependentRows(() => tf.matMul<Tensor2D>(rows, w, false, true));
      const weights = rowsOf(w);
      const together = product(x);
      assertNear(together, rowsOf(x).flatMap((row) => weights.map((other) => sum(row.map((value, i) => value * other[i]!)))), 1e-5); // prettier-ignore
      const values = rowsOf(together);
      for (const row of [0, numRows >> 1, numRows - 1])
        assert.deepEqual(rowsOf(product(tf.slice(x, [row, 0], [1, depth]))), [values[row]]);
      assert.deepEqual(rowsOf(runNode('ExmixPackedProduct', x, w, runNode('ExmixPack', w))), values);
      assert.throws(() => runNode('ExmixPackedProduct', x, w, tf.zeros([1, depth, 16])), /panels \[P, K, 32\] of w/u);
    });

  test('rows of a pool are written in place; rows outside of it are refused', () => {
    const [first, second] = [0, 1].map(() => runNode('ExmixPool', tf.tensor1d([5, 3], 'int32')) as Tensor2D);
    const rows = tensor([2, 3], 1);
    for (const place of [0, 3]) runNode('ExmixAppend', first!, rows, tf.scalar(place, 'int32'));
    runNode('ExmixAppend', second!, tensor([5, 3], 2), tf.scalar(0, 'int32'));
    assert.deepEqual(rowsOf(tf.gather(first!, [0, 1, 3, 4])), [...rowsOf(rows), ...rowsOf(rows)]);
    assert.deepEqual(rowsOf(second!), rowsOf(tensor([5, 3], 2)));
    for (const place of [-1, 4])
      assert.throws(() => runNode('ExmixAppend', first!, rows, tf.scalar(place, 'int32')), /places of the pool/u);
  });

  for (const headWidth of [1, 4, 16, 37])
    test(`attention to places of a pool, heads of width ${headWidth}`, () => {
      const [numHeads, numPlaces] = [3, 40];
      const width = numHeads * headWidth;
      const length = 19;
      const lists = [[39], [3, 1, 2, 0], Array.from({ length }, (_, i) => 2 * i), [7, 7]];
      const places = lists.flatMap((list) => Array.from({ length }, (_, i) => list[i] ?? -1));
      const queries = tensor([lists.length, width], 1) as Tensor2D;
      const pool = {
        keys: tensor([numPlaces, width], 2) as Tensor2D,
        values: tensor([numPlaces, width], 3) as Tensor2D,
      };
      const bias = tensor([length, numHeads], 4) as Tensor2D;
      const [q, k, v, b] = [queries, pool.keys, pool.values, bias].map(rowsOf) as [number[][], number[][], number[][], number[][]]; // prettier-ignore
      const expected = (withBias: boolean) =>
        lists.flatMap((list, row) =>
          Array.from({ length: width }, (_, column) => {
            const head = Math.floor(column / headWidth);
            const columns = Array.from({ length: headWidth }, (_, i) => head * headWidth + i);
            const scores = list.map((place, i) => sum(columns.map((c) => q[row]![c]! * k[place]![c]!)) + (withBias ? b[i]![head]! : 0)); // prettier-ignore
            return sum(softmaxOf(scores).map((p, i) => p * v[list[i]!]![column]!));
          }),
        );
      const ints = tf.tensor1d(places, 'int32');
      assertNear(fusedCachedAttention(queries, pool, ints, bias), expected(true), 1e-5);
      assertNear(fusedCachedAttention(queries, pool, ints, tf.zeros([1, numHeads])), expected(false), 1e-5);
      for (const wrong of [[40], [-1]]) {
        const one = tf.tensor1d(wrong, 'int32');
        assert.throws(() => fusedCachedAttention(tf.slice(queries, 0, 1), pool, one, tf.zeros([1, numHeads])), /places below P/u); // prettier-ignore
      }
    });

  for (const [vocabSize, numCandidates] of [
    [3, 3],
    [50, 8],
    [5000, 1],
    [5000, 9],
    [2100, 2100],
  ] as const)
    test(`the ${numCandidates} likeliest of ${vocabSize} tokens`, () => {
      const [numRows, depth] = [14, 20];
      const hidden = tensor([numRows, depth], 1) as Tensor2D;
      const numbersOf = numbers(vocabSize * depth, 2);
      // Tokens 1 and vocabSize − 1 are equal: the smaller comes first.
      numbersOf.copyWithin((vocabSize - 1) * depth, depth, 2 * depth);
      const weight = tf.tensor2d(numbersOf, [vocabSize, depth]);
      const given = Array.from({ length: 2 * numRows }, (_, i) => (i * 997 + 1) % vocabSize);
      const outputs = fusedLikeliestTokens(
        hidden,
        weight,
        tf.tensor1d(given, 'int32'),
        tf.scalar(numCandidates, 'int32'),
      );
      const fromPanels = backend.executeMultipleOutputs(
        'ExmixPackedLikeliestTokens',
        [],
        [hidden, weight, tf.tensor1d(given, 'int32'), tf.scalar(numCandidates, 'int32'), runNode('ExmixPack', weight)],
        outputs.length,
      );
      assert.deepEqual(fromPanels.map(valuesOf), outputs.map(valuesOf));
      const [ids, logits, givenLogits, normalizers] = outputs.map(valuesOf) as [number[], number[], number[], number[]];
      const plain = rowsOf(withIndependentRows(() => tf.matMul<Tensor2D>(hidden, weight, false, true)));
      plain.forEach((row, at) => {
        const order = row.map((_, id) => id).sort((a, b) => row[b]! - row[a]! || a - b).slice(0, numCandidates); // prettier-ignore
        assert.deepEqual(ids.slice(at * numCandidates, (at + 1) * numCandidates), order);
        assert.deepEqual(logits.slice(at * numCandidates, (at + 1) * numCandidates), order.map((id) => row[id])); // prettier-ignore
        assert.deepEqual(givenLogits.slice(2 * at, 2 * at + 2), given.slice(2 * at, 2 * at + 2).map((id) => row[id])); // prettier-ignore
        const largest = row.reduce((most, value) => Math.max(most, value));
        const exact = largest + Math.log(sum(row.map((value) => Math.exp(value - largest))));
        assert.ok(Math.abs(normalizers[at]! - exact) <= 1e-6 * Math.max(1, Math.abs(exact)));
      });
      for (const [token, count] of [
        [vocabSize, 1],
        [0, 0],
        [0, vocabSize + 1],
      ] as const)
        // prettier-ignore
        assert.throws(
          () => fusedLikeliestTokens(tf.slice(hidden, 0, 1), weight, tf.tensor1d([token], 'int32'), tf.scalar(count, 'int32')), // prettier-ignore
          /num_candidates in \[1, V\] and given tokens in \[0, V\)/u,
        );
    });

  test('NaN and infinities come through', () => {
    const x = tf.tensor2d([NaN, 1, 2, 3, Infinity, 1, 2, 3, 1, 2, 3, 4], [3, 4]);
    const isFiniteAt = (values: readonly number[]) => values.map(Number.isFinite);
    const ones = tf.ones<tf.Rank.R2>([3, 4]);
    const rows = [false, false, false, false, false, true, true, true, true, true, true, true];
    const normal = valuesOf(fusedRmsNorm(x, tf.ones([4]), 1e-6));
    assert.ok(normal.slice(0, 5).every(Number.isNaN));
    assert.ok(normal.slice(8).every(Number.isFinite));
    assert.deepEqual(isFiniteAt(valuesOf(fusedGeluTimes(x, ones))), [
      false,
      ...rows.slice(5, 8),
      false,
      ...rows.slice(5),
    ]);
    const four = tf.reshape<tf.Rank.R4>(x, [1, 1, 3, 4]);
    const p = valuesOf(fusedBiasedSoftmax(four, tf.zerosLike(four)));
    assert.ok(p.slice(0, 8).every(Number.isNaN));
    assert.ok(p.slice(8).every(Number.isFinite));
    const { loss_M, logZ_M } = fusedCrossEntropy(x, tf.tensor1d([1, 1, 1], 'int32'));
    assert.deepEqual(isFiniteAt(valuesOf(loss_M)), [false, false, true]);
    assert.deepEqual(isFiniteAt(valuesOf(logZ_M)), [false, false, true]);
    const { learningRate, decay, newShare, gradientScale } = updateScalars({
      step: 3,
      learningRate: 0.01,
      gradientScale: 1,
    });
    const scalars = [learningRate, decay, newShare, gradientScale];
    const [whole] = fusedAdafactor(tf.tensor1d([NaN, 1]), tf.ones([2]), [tf.ones([2])], scalars);
    assert.ok(valuesOf(whole!).every(Number.isNaN));
    const spoiled = numbers(128 * 128, 1);
    spoiled[300] = NaN;
    const slots = [tf.ones([128]), tf.ones([128])];
    const [factored] = fusedAdafactor(tf.tensor(spoiled, [128, 128]), tf.ones([128, 128]), slots, scalars);
    assert.ok(valuesOf(factored!).every(Number.isNaN));
    const ninth = Array.from({ length: 9 }, () => tf.scalar(0.5));
    const moments = [tf.ones([2]), tf.ones([2])];
    const [adamw] = fusedAdamw(false, [tf.tensor1d([NaN, 1]), tf.ones([2]), ...moments, ...ninth]);
    assert.deepEqual(isFiniteAt(valuesOf(adamw!)), [false, true]);
    const [relative] = fusedAdamw(true, [tf.ones([2]), tf.tensor1d([NaN, 1]), ...moments, ...ninth]);
    assert.ok(valuesOf(relative!).every(Number.isNaN), 'the size of the parameter is not a number');
  });

  test('a label out of range is an error, not a read out of bounds', () => {
    assert.throws(() => fusedCrossEntropy(tf.ones([1, 4]), tf.tensor1d([4], 'int32')), /labels \[M\] below V/);
  });

  // 70,003 elements of a row are several blocks, and end inside a vector; a rate near 0 has the least thresholds.
  for (const [rate, broadcastLength, shape] of [
    [0.1, false, [3, 7]],
    [0.1, false, [2 * 101, 693]],
    [0.25, false, [3, 4, 17, 19]],
    [0.25, true, [3, 4, 17, 19]],
    [0.5, true, [6, 35]],
    [2 ** -32, false, [3, 64]],
    [0.95, false, [1, 70_003]],
  ] as const)
    test(`masks of [${shape.join(', ')}] at rate ${rate}${broadcastLength ? ', shared along the length' : ''} are those of JavaScript, in both kernels`, () => {
      const numRows = shape.length === 4 || shape[0] % 3 === 0 ? 3 : shape[0] === 1 ? 1 : 2;
      const settings = { rate, broadcastLength };
      const site = { side: 'decoder', block: 5, part: 'ff.output' } as const;
      const keys = dropoutKeys(7, { step: 3, firstRow: 11, numRows });
      const x = tensor([...shape], 1, 3);
      const keys_B2 = tf.tensor2d(keys, [numRows, 2], 'int32');
      const values = x.dataSync<'float32'>();
      const expected = new Float32Array(values.length);
      multiplyRows(values, keys, planMask(settings, site, shape, numRows), expected);
      const run = () => countedDropout(settings, keys_B2)!.multiply(x, site).dataSync<'float32'>();
      assert.deepEqual(run(), expected, 'by operations of TensorFlow');
      assert.deepEqual(withFusedBlocks(run), expected, 'by our kernel');
    });

  test('a mask whose rows do not fit fails the run', () => {
    const x = tensor([5, 7], 1);
    const keys_B2 = tf.zeros([2, 2], 'int32');
    const plan = { site: 1, threshold: 0, scale: 2, length: 1, inner: 17 };
    assert.throws(() => withFusedBlocks(() => multiplyByMask(x, keys_B2, plan)), /rows of one size/u);
  });
});
