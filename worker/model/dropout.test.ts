import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import * as tf from '@tensorflow/tfjs';
import {
  countedDropout,
  drop,
  dropoutKeys,
  NO_DROPOUT,
  planMask,
  siteName,
  siteNumber,
  type DropoutPart,
} from './dropout.ts';

const PARTS: readonly DropoutPart[] = [
  'embedding',
  'final',
  'self.attention_weights',
  'self.output',
  'cross.attention_weights',
  'cross.output',
  'ff.inner',
  'ff.output',
];
const site = { side: 'encoder', block: 1, part: 'ff.inner' } as const;

describe('keys of rows', () => {
  test('a row has the same key in any cut of a step into microbatches', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 31 }), fc.nat({ max: 1e6 }), fc.integer({ min: 1, max: 7 }), (seed, step, cut) => {
        const whole = dropoutKeys(seed, { step, firstRow: 0, numRows: 8 });
        const parts = [
          ...dropoutKeys(seed, { step, firstRow: 0, numRows: cut }),
          ...dropoutKeys(seed, { step, firstRow: cut, numRows: 8 - cut }),
        ];
        assert.deepEqual(parts, [...whole]);
      }),
      { numRuns: 30 },
    );
  });

  test('keys of other rows, steps and seeds are others, and leave room for the number of a site', () => {
    const seen = new Set<string>();
    for (const seed of [1, 2])
      for (const step of [1, 2, 3]) {
        const keys = dropoutKeys(seed, { step, firstRow: 0, numRows: 500 });
        for (let row = 0; row < 500; row++) {
          const [first, second] = [keys[2 * row]!, keys[2 * row + 1]!];
          assert.ok(first >= 0 && second >= 0 && second < 2 ** 30);
          seen.add(`${first} ${second}`);
        }
      }
    assert.equal(seen.size, 3000);
  });

  test('the key of a row is the one of the first version: masks of recorded runs stay', () => {
    assert.deepEqual([...dropoutKeys(7, { step: 3, firstRow: 5, numRows: 1 })], [429364465, 225837004]);
  });
});

describe('sites', () => {
  test('each site has a number and a name of its own', () => {
    const sites = (['encoder', 'decoder'] as const).flatMap((side) =>
      [0, 1, 2, 23].flatMap((block) => PARTS.map((part) => ({ side, block, part }))),
    );
    assert.equal(new Set(sites.map(siteNumber)).size, sites.length);
    assert.equal(siteName({ side: 'encoder', block: 0, part: 'embedding' }), 'encoder.embedding');
    assert.equal(siteName({ side: 'decoder', block: 3, part: 'cross.output' }), 'decoder.3.cross.output');
  });

  test('a mask of its own for each element, or shared along the length but for the last site of the encoder', () => {
    const [full, shared] = [false, true].map((broadcastLength) => ({ rate: 0.25, broadcastLength }));
    const geometry = (...args: Parameters<typeof planMask>) => {
      const { length, inner } = planMask(...args);
      return [length, inner];
    };
    assert.deepEqual(geometry(full!, site, [12, 5], 3), [1, 20]);
    assert.deepEqual(geometry(shared!, site, [12, 5], 3), [4, 5]);
    assert.deepEqual(geometry(shared!, { ...site, part: 'self.attention_weights' }, [3, 2, 4, 6], 3), [4, 6]);
    assert.deepEqual(geometry(shared!, { ...site, part: 'final' }, [12, 5], 3), [1, 20]);
    assert.deepEqual(geometry(shared!, { side: 'decoder', block: 0, part: 'final' }, [12, 5], 3), [4, 5]);
  });

  test('the threshold leaves 1 − p of all words, and the scale makes the mean 1', () => {
    for (const rate of [0.1, 0.25, 0.5, 0.9]) {
      const { threshold, scale } = planMask({ rate, broadcastLength: false }, site, [4, 4], 2);
      const share = (2 ** 31 - threshold) / 2 ** 32;
      assert.ok(Math.abs(share - (1 - rate)) < 2 ** -32 && Math.abs(share * scale - 1) < 1e-7, `${rate}`);
    }
  });
});

test('without dropout a tensor is returned as it is', () => {
  const x = tf.ones([2, 3]);
  assert.equal(countedDropout(NO_DROPOUT, tf.zeros([1, 2], 'int32')), undefined);
  assert.equal(drop(x, undefined, site), x);
});
