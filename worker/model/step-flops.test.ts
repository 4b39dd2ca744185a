import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { forwardFlops, stepFlops } from './step-flops.ts';

const TINY = { vocabSize: 10, dModel: 3, dKv: 2, dFf: 4, numLayers: 1, numDecoderLayers: 1, numHeads: 2 };

describe('operations of a step', () => {
  test('a model small enough to count by hand', () => {
    // Two rows of 5 and 2 tokens: 10 positions of the encoder, 4 of the decoder; inner width 4. Every product as 2·m·k·n.
    const encoder = 4 * (2 * 10 * 3 * 4) + 2 * 2 * (2 * 2 * 5 * 2 * 5) + 3 * (2 * 10 * 3 * 4);
    const decoderSelf = 4 * (2 * 4 * 3 * 4) + 2 * 2 * (2 * 2 * 2 * 2 * 2) + 3 * (2 * 4 * 3 * 4);
    const across = 2 * (2 * 4 * 3 * 4) + 2 * (2 * 10 * 3 * 4) + 2 * 2 * (2 * 2 * 2 * 2 * 5);
    const output = 2 * 4 * 3 * 10;
    const shape = { numRows: 2, inputsLength: 5, targetsLength: 2 };
    assert.equal(forwardFlops(modelConfigSchema.parse(TINY), shape), encoder + decoderSelf + across + output);
    const relu = modelConfigSchema.parse({ ...TINY, feedForward: 'relu' });
    assert.equal(forwardFlops(relu, shape), encoder + decoderSelf + across + output - 2 * 10 * 3 * 4 - 2 * 4 * 3 * 4);
  });

  test('the model whose figures stand in worker/engine/README.md', () => {
    const sizes = { vocabSize: 4096, dModel: 256, dKv: 64, dFf: 512, numLayers: 3, numDecoderLayers: 3, numHeads: 4 };
    const flops = stepFlops(modelConfigSchema.parse(sizes), { numRows: 8, inputsLength: 128, targetsLength: 48 });
    assert.equal(Math.round(flops / 1e8), 242);
  });

  test('rows are independent, and the backward pass is two forward passes', () => {
    const config = modelConfigSchema.parse({});
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 512 }), (numRows, length) => {
        const one = { numRows: 1, inputsLength: length, targetsLength: length };
        assert.equal(forwardFlops(config, { ...one, numRows }), numRows * forwardFlops(config, one));
        assert.equal(stepFlops(config, one), 3 * forwardFlops(config, one));
      }),
      { numRuns: 50 },
    );
  });

  test('near 6 operations a parameter and token where sequences are short beside the width', () => {
    const base = modelConfigSchema.parse({ dModel: 768, dFf: 2048, numLayers: 12, numDecoderLayers: 12, numHeads: 12 });
    const perToken = stepFlops(base, { numRows: 1, inputsLength: 64, targetsLength: 64 }) / 64;
    const encoder = 12 * (4 * 768 * 768 + 3 * 768 * 2048);
    const decoder = 12 * (8 * 768 * 768 + 3 * 768 * 2048) + 768 * 32128;
    assert.ok(Math.abs(perToken / (6 * (encoder + decoder)) - 1) < 0.03, String(perToken));
  });
});
