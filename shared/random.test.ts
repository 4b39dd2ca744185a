import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hashName, philox4x32, RandomStream } from './random.ts';

/** Known answers of Random123 1.09, kat_vectors, philox4x32 with 10 rounds: counter, key, expected. */
const KNOWN_ANSWERS = [
  ['00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
  ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
  ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
] as const;

const words = (hex: string) => hex.split(' ').map((word) => Number.parseInt(word, 16));

describe('counter-based randomness', () => {
  for (const [counter, key, expected] of KNOWN_ANSWERS) {
    test(`philox4x32-10 of counter ${counter} matches the Random123 vector`, () => {
      const out = new Uint32Array(4);
      philox4x32(words(counter), words(key), out);
      assert.deepEqual([...out], words(expected));
    });
  }

  test('a stream is a pure function of its names, and the order of names matters', () => {
    const take = (names: number[]) =>
      Array.from(
        { length: 8 },
        (
          (s) => () =>
            s.nextUint32()
        )(new RandomStream(names)),
      );
    assert.deepEqual(take([1, 2, 3]), take([1, 2, 3]));
    assert.notDeepEqual(take([1, 2, 3]), take([3, 2, 1]));
    assert.notDeepEqual(take([1]), take([1, 0]));
    assert.notDeepEqual(take([1]), take([1 + 2 ** 32]));
  });

  test('nextBelow stays below its bound and reaches every value', () => {
    const stream = new RandomStream([hashName('bounds')]);
    const seen = new Set(Array.from({ length: 400 }, () => stream.nextBelow(7)));
    assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4, 5, 6]);
  });

  test('normal values have mean 0 and variance 1 within four standard errors', () => {
    const stream = new RandomStream([5]);
    const n = 20_000;
    let sum = 0;
    let squares = 0;
    for (let i = 0; i < n; i++) {
      const value = stream.nextNormal();
      sum += value;
      squares += value * value;
    }
    assert.ok(Math.abs(sum / n) < 4 / Math.sqrt(n));
    assert.ok(Math.abs(squares / n - 1) < 4 * Math.sqrt(2 / n));
  });

  test('shuffle keeps every value', () => {
    const values = Array.from({ length: 50 }, (_, i) => i);
    new RandomStream([9]).shuffle(values);
    assert.notDeepEqual(
      values,
      [...values].sort((a, b) => a - b),
    );
    assert.deepEqual(
      [...values].sort((a, b) => a - b),
      Array.from({ length: 50 }, (_, i) => i),
    );
  });
});
