import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { assignRanks } from './assign-ranks.ts';

describe('assignRanks', () => {
  for (const [what, previous, ready, maxWorkers, members, reason] of [
    [
      'without a generation before, by id',
      [],
      ['w2', 'w10', 'w0'],
      8,
      ['w0', 'w10', 'w2'],
      '3 workers: w0, w10 and w2 by id',
    ],
    ['all stay', ['b', 'a'], ['a', 'b'], 8, ['b', 'a'], '2 workers: b and a kept in order'],
    ['one dies', ['a', 'b', 'c'], ['c', 'a'], 8, ['a', 'c'], '2 workers: a and c kept in order; b gone'],
    [
      'one joins, last whatever its id',
      ['b', 'c'],
      ['a', 'c', 'b'],
      8,
      ['b', 'c', 'a'],
      '3 workers: b and c kept in order; a new',
    ],
    [
      'one is replaced, one has no room',
      ['c', 'b'],
      ['e', 'd', 'b'],
      2,
      ['b', 'd'],
      '2 workers: b kept in order; d new; c gone; e left out, at most 2 take part',
    ],
    [
      'fewer may take part than stay',
      ['b', 'a'],
      ['a', 'b'],
      1,
      ['b'],
      '1 worker: b kept in order; a left out, at most 1 take part',
    ],
    ['nobody of the generation before is left', ['a'], ['c', 'b'], 8, ['b', 'c'], '2 workers: b and c new; a gone'],
    ['nobody is ready', ['a'], [], 8, [], '0 workers: a gone'],
    ['nobody was ever there', [], [], 8, [], '0 workers'],
  ] as const)
    test(what, () => {
      assert.deepEqual(assignRanks(previous, ready, maxWorkers), { members, reason });
    });

  test('any workers: survivors before newcomers, each in its order, no worker twice, no free rank without need', () => {
    const ids = fc.uniqueArray(
      fc.integer({ min: 10, max: 21 }).map((n) => `w${n}`),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(ids, ids, fc.integer({ min: 1, max: 12 }), (previous, ready, maxWorkers) => {
        const { members } = assignRanks(previous, ready, maxWorkers);
        assert.equal(members.length, Math.min(ready.length, maxWorkers));
        assert.equal(new Set(members).size, members.length);
        const places = members.map((id) => [previous.includes(id) ? previous.indexOf(id) : 100, id] as const);
        for (const [rank, [place, id]] of places.entries()) {
          assert.ok(ready.includes(id));
          const [placeBefore, idBefore] = places[rank - 1] ?? [-1, ''];
          assert.ok(placeBefore < place || (placeBefore === 100 && idBefore < id));
        }
        // The order in which workers became ready does not matter.
        assert.deepEqual(assignRanks(previous, ready.toReversed(), maxWorkers).members, members);
      }),
    );
  });
});
