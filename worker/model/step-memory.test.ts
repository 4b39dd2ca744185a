import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { optimizerSchema } from '../../shared/optimizer.ts';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { createTfjsEngine } from '../engine/tfjs-engine.ts';
import { initialiseParameters } from './initialise.ts';
import type { BatchShape } from './step-flops.ts';
import { adviseOnMemory, largestFittingMicrobatch, stepMemory } from './step-memory.ts';

const SMALL = { vocabSize: 512, dModel: 48, dKv: 16, dFf: 96, numLayers: 2, numDecoderLayers: 2, numHeads: 3 };
const BASE = modelConfigSchema.parse({ dModel: 768, dFf: 2048, numLayers: 12, numDecoderLayers: 12, numHeads: 12 });
const LENGTHS = { inputsLength: 512, targetsLength: 114 };
const GIB = 2 ** 30;
const RECORDED = { optimizer: 'adafactor', retention: 'recorded' } as const;

/** What tfjs holds at the peak of one step besides parameters and optimizer state, B. */
async function measuredPeak(
  sizes: object,
  { numRows, inputsLength, targetsLength }: BatchShape,
  rate = 0,
): Promise<number> {
  const config = modelConfigSchema.parse({ ...SMALL, ...sizes });
  const engine = await createTfjsEngine({
    backend: 'wasm',
    config,
    zLoss: 1e-4,
    dropout: { rate, broadcastLength: false },
  });
  await engine.load(initialiseParameters(engine.parameters, 1), 'zero');
  const ones = (length: number) => new Int32Array(numRows * length).fill(1);
  const batch = {
    ...{ numRows, inputsLength, targetsLength },
    encoderInputIds: ones(inputsLength),
    encoderSegmentIds: ones(inputsLength),
    decoderInputIds: ones(targetsLength),
    decoderSegmentIds: ones(targetsLength),
    labels: ones(targetsLength),
    dropoutKeys: new Int32Array(2 * numRows),
  };
  const before = tf.memory().numBytes;
  const { peakBytes } = await tf.profile(async () => {
    await engine.step(batch, () => undefined);
    return [];
  });
  await engine.dispose();
  return peakBytes - before;
}

describe('memory of a step', () => {
  for (const [what, sizes, shape] of [
    ['short rows', {}, { numRows: 2, inputsLength: 32, targetsLength: 16 }],
    ['long rows', {}, { numRows: 2, inputsLength: 96, targetsLength: 32 }],
    ['many rows', {}, { numRows: 8, inputsLength: 32, targetsLength: 16 }],
    ['a wide feed-forward layer', { dFf: 512 }, { numRows: 4, inputsLength: 32, targetsLength: 16 }],
    ['many heads', { numHeads: 9 }, { numRows: 4, inputsLength: 32, targetsLength: 16 }],
    ['a large vocabulary', { vocabSize: 8192 }, { numRows: 8, inputsLength: 16, targetsLength: 16 }],
    ['a deep encoder', { numLayers: 6, numDecoderLayers: 1 }, { numRows: 4, inputsLength: 48, targetsLength: 16 }],
  ] as const) {
    test(`the eager estimate is near tfjs's peak, and seldom below it: ${what}`, async () => {
      const config = modelConfigSchema.parse({ ...SMALL, ...sizes });
      const { gradientBytes, activationBytes } = stepMemory(config, shape, { ...RECORDED, retention: 'eager' });
      const measured = await measuredPeak(sizes, shape);
      const ratio = (gradientBytes + activationBytes) / measured;
      assert.ok(ratio > 0.8 && ratio < 1.6, `estimated / measured = ${ratio.toFixed(3)}`);
    });

    test(`dropout adds to tfjs's peak what the estimate adds: ${what}`, async () => {
      const config = modelConfigSchema.parse({ ...SMALL, ...sizes });
      const eager = { ...RECORDED, retention: 'eager' } as const;
      const estimate = (hasDropout: boolean) => stepMemory(config, { ...shape, hasDropout }, eager).activationBytes;
      const measured = (await measuredPeak(sizes, shape, 0.1)) - (await measuredPeak(sizes, shape));
      const ratio = (estimate(true) - estimate(false)) / measured;
      assert.ok(ratio > 0.95 && ratio < 1.05, `estimated / measured = ${ratio.toFixed(3)}`);
    });
  }

  test('T5 base: 0.92 GiB of parameters, as much for gradients, the rest grows with the rows', () => {
    const one = stepMemory(BASE, { numRows: 1, ...LENGTHS }, RECORDED);
    const eight = stepMemory(BASE, { numRows: 8, ...LENGTHS }, RECORDED);
    assert.equal(one.parameterBytes, 4 * 247_577_856);
    assert.equal(eight.activationBytes, 8 * one.activationBytes);
    assert.ok(one.optimizerBytes < one.parameterBytes / 100, 'Adafactor is factored');
    for (const optimizer of ['adamw', 'adamw-rms'] as const) {
      const adamw = stepMemory(BASE, { numRows: 1, ...LENGTHS }, { ...RECORDED, optimizer });
      assert.equal(adamw.optimizerBytes, 2 * one.parameterBytes, 'two numbers for each parameter');
      assert.equal(adamw.totalBytes - adamw.optimizerBytes, one.totalBytes - one.optimizerBytes);
    }
  });

  test('what AdamW holds more than Adafactor costs rows', () => {
    const request = { availableBytes: 6 * GIB, rowsPerLane: 32, ...RECORDED };
    const rows = largestFittingMicrobatch(BASE, LENGTHS, request);
    assert.ok(rows > largestFittingMicrobatch(BASE, LENGTHS, { ...request, optimizer: 'adamw' }));
  });

  for (const optimizer of ['adafactor', 'adamw'] as const)
    test(`an engine with ${optimizer} holds what is predicted`, async () => {
      const config = modelConfigSchema.parse({ ...SMALL, dModel: 160, dFf: 256 });
      const before = tf.memory().numBytes;
      const engine = await createTfjsEngine({
        ...{ backend: 'wasm', config, zLoss: 0 },
        optimizer: optimizerSchema.parse({ kind: optimizer }),
      });
      await engine.load(initialiseParameters(engine.parameters, 1), 'zero');
      const shape = { numRows: 1, inputsLength: 1, targetsLength: 1 };
      const { parameterBytes, optimizerBytes } = stepMemory(config, shape, { optimizer, retention: 'eager' });
      assert.equal(engine.memory().numBytes - before, parameterBytes + optimizerBytes);
      await engine.dispose();
    });

  test('the largest microbatch fits, is a divisor of the lane, and the next larger divisor does not fit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 160 }), fc.constantFrom(1, 6, 8, 32, 48), (availableGib, rowsPerLane) => {
        const availableBytes = availableGib * GIB;
        const request = { availableBytes, rowsPerLane, ...RECORDED };
        const rows = largestFittingMicrobatch(BASE, LENGTHS, request);
        const bytes = (numRows: number) => stepMemory(BASE, { numRows, ...LENGTHS }, RECORDED).totalBytes;
        if (rows > 0) {
          assert.equal(rowsPerLane % rows, 0);
          assert.ok(bytes(rows) <= availableBytes);
        }
        for (let more = rows + 1; more <= rowsPerLane; more++)
          if (rowsPerLane % more === 0) assert.ok(bytes(more) > availableBytes);
      }),
      { numRuns: 40 },
    );
  });

  test('the advice names a microbatch that fits, or states that none does', () => {
    const advise = (availableBytes: number, numRows = 8) =>
      adviseOnMemory(BASE, { numRows, ...LENGTHS }, { availableBytes, ...RECORDED });
    assert.match(advise(8 * GIB), /8\.0 GiB can be had; --set training\.microbatchRows=[124] should fit/u);
    assert.match(advise(GIB), /not even one row fits: take a smaller model or preset/u);
    // The estimate would let it fit, but it did not.
    assert.match(advise(1000 * GIB), /microbatchRows=4 should fit/u);
    assert.match(advise(1000 * GIB, 1), /not even one row fits/u);
  });
});
