import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { ParameterSpec } from '../../model/parameters.ts';
import { gradientGroups } from './gradient-groups.ts';

const specOf = (size: number, i: number): ParameterSpec => ({
  name: `p${i}`,
  shape: [size],
  initializer: { kind: 'ones' },
});

describe('groups of gradients', () => {
  test('every parameter comes once, last first, in at most so many groups of which none is empty', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 10_000 }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 12 }), (all, maxGroups) => {
        const groups = gradientGroups(all.map(specOf), maxGroups);
        assert.deepEqual(
          groups.flat(),
          all.map((_, i) => all.length - 1 - i),
        );
        assert.ok(groups.length <= maxGroups);
        assert.ok(groups.every((group) => group.length > 0));
      }),
    );
  });

  test('equal parameters make equal groups', () => {
    const sizes = Array.from({ length: 12 }, () => 5);
    assert.deepEqual(
      gradientGroups(sizes.map(specOf), 4).map((group) => group.length),
      [3, 3, 3, 3],
    );
  });
});
