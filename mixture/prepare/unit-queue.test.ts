import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isAssigned, MAX_ATTEMPTS, orderUnits, parseShard, UnitQueue, type QueuedUnit } from './unit-queue.ts';

const unit = (task: string, number: number, bytes: number): QueuedUnit => ({ task, number, bytes });
const anyUnits = fc
  .array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(1000)), { maxLength: 40 })
  .map((pairs) => pairs.map(([task, bytes], number) => unit(task, number, bytes)));

describe('shards of a job array', () => {
  test('are written i/n, with i from 1', () => {
    assert.deepEqual(parseShard('1/3'), { index: 1, count: 3 });
    assert.deepEqual(parseShard('12/12'), { index: 12, count: 12 });
    for (const text of ['0/3', '4/3', '3', '1/0', '-1/3', '1/3 ', 'a/b', '1.5/3', ''])
      assert.throws(() => parseShard(text), { code: 'CONFIG_INVALID', message: /i\/n/ }, text);
  });

  test('assign each unit to exactly one member, as evenly as possible', () => {
    fc.assert(
      fc.property(fc.nat(500), fc.integer({ min: 1, max: 40 }), (numUnits, count) => {
        const owners = Array.from({ length: numUnits }, (_, position) =>
          Array.from({ length: count }, (__, i) => i + 1).filter((index) => isAssigned(position, { index, count })),
        );
        assert.ok(owners.every((of) => of.length === 1));
        const loads = Array.from({ length: count }, (_, i) => owners.filter(([owner]) => owner === i + 1).length);
        assert.ok(Math.max(...loads) - Math.min(...loads) <= 1);
      }),
      { numRuns: 50 },
    );
  });
});

describe('the order of units', () => {
  test('is one unit of each task first, then the largest', () => {
    const units = [unit('a', 0, 5), unit('a', 1, 9), unit('b', 0, 1), unit('b', 1, 12), unit('b', 2, 9)];
    assert.deepEqual(
      orderUnits(units).map(({ task, number }) => `${task}${number}`),
      ['a0', 'b0', 'b1', 'a1', 'b2'],
    );
  });

  test('holds each unit once', () => {
    fc.assert(fc.property(anyUnits, (units) => assert.deepEqual(new Set(orderUnits(units)), new Set(units))));
  });
});

describe('the queue', () => {
  test('returns a unit again if its process died, and gives it up after the last attempt', () => {
    const [first, second] = [unit('a', 0, 1), unit('a', 1, 1)];
    const queue = new UnitQueue([first, second]);
    for (let attempt = 1; attempt < MAX_ATTEMPTS; attempt++) {
      assert.equal(queue.next(), first);
      assert.equal(queue.died(first), 'again');
    }
    assert.equal(queue.next(), first);
    assert.equal(queue.died(first), 'given up');
    assert.equal(queue.next(), second);
    assert.equal(queue.next(), undefined);
  });

  test('starts no further unit of a failed task, nor one whose process died', () => {
    const units = [unit('a', 0, 1), unit('b', 0, 1), unit('a', 1, 1)];
    const queue = new UnitQueue(units);
    const running = queue.next()!;
    queue.dropTask('a');
    assert.equal(queue.died(running), 'given up');
    assert.equal(queue.next(), units[1]);
    assert.equal(queue.next(), undefined);
  });

  test('finishes each unit exactly once, for any deaths', () => {
    fc.assert(
      fc.property(anyUnits, fc.infiniteStream(fc.nat(9)), (units, luck) => {
        const queue = new UnitQueue(units);
        const running: QueuedUnit[] = [];
        const ended: QueuedUnit[] = [];
        for (;;) {
          const next = running.length < 3 ? queue.next() : undefined;
          if (next !== undefined) {
            running.push(next);
            continue;
          }
          const ending = running.shift();
          if (ending === undefined) break; // no unit runs or waits
          if (luck.next().value! < 3 && queue.died(ending) === 'again') continue;
          ended.push(ending);
        }
        assert.equal(queue.next(), undefined);
        assert.equal(ended.length, units.length);
        assert.deepEqual(new Set(ended), new Set(units));
      }),
      { numRuns: 60 },
    );
  });
});
