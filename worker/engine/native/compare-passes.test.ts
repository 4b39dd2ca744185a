import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { differenceOf } from './compare-passes.ts';

const expected = [Float32Array.of(5, 0.5), Float32Array.of(1, -2, 3), Float32Array.of(0.01, 0)];
const changed = (output: number, index: number, value: number) =>
  expected.map((values, i) => (i === output ? values.with(index, value) : values));

describe('a recorded graph beside eager', () => {
  test('equal and nearly equal outputs pass', () => {
    assert.equal(differenceOf('step', expected, expected, 'float32'), undefined);
    assert.equal(differenceOf('forward', changed(1, 0, 1 + 1e-6), expected, 'float32'), undefined);
  });

  test('a loss, a gradient, a small gradient and NaN are found', () => {
    assert.match(differenceOf('step', changed(0, 0, 5.01), expected, 'float32') ?? '', /relative L2/);
    assert.match(differenceOf('step', changed(1, 2, 3.01), expected, 'float32') ?? '', /relative L2/);
    assert.match(differenceOf('step', changed(2, 0, 0.0101), expected, 'float32') ?? '', /output 2/);
    assert.ok(differenceOf('step', changed(2, 1, Number.NaN), expected, 'float32') !== undefined);
    assert.ok(differenceOf('step', changed(0, 1, Number.NaN), expected, 'bfloat16') !== undefined);
  });

  test('bfloat16 may differ by more', () => {
    assert.equal(differenceOf('step', changed(1, 2, 3.01), expected, 'bfloat16'), undefined);
  });

  test('outputs that are all zero pass when they are found zero, and only then', () => {
    const zeros = [Float32Array.of(1), Float32Array.of(0, 0)];
    assert.equal(differenceOf('step', zeros, zeros, 'float32'), undefined);
    assert.ok(differenceOf('step', [zeros[0]!, Float32Array.of(0, 1e-3)], zeros, 'float32') !== undefined);
  });
});
