import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Strikes } from './strikes.ts';

describe('strikes', () => {
  test('three failures in one step exclude a worker, and the reason says what the last one was', () => {
    const strikes = new Strikes();
    assert.equal(strikes.add('a', 5, 'first'), undefined);
    assert.equal(strikes.add('a', 5, 'second'), undefined);
    assert.equal(strikes.reason('a'), undefined);
    assert.equal(strikes.add('a', 5, 'third'), 'a has failed 3 times in step 5, last: third');
    assert.equal(strikes.reason('a'), 'a has failed 3 times in step 5, last: third');
  });

  test('failures in different steps do not add up: each step begins anew', () => {
    const strikes = new Strikes();
    for (const step of [5, 5, 6, 6, 5, 7, 8]) assert.equal(strikes.add('a', step, 'x'), undefined);
    assert.equal(strikes.reason('a'), undefined);
  });

  test('workers are counted each for itself', () => {
    const strikes = new Strikes();
    for (const workerId of ['a', 'b', 'a', 'b']) assert.equal(strikes.add(workerId, 5, 'x'), undefined);
    assert.match(strikes.add('b', 5, 'x') ?? '', /^b has failed 3 times/u);
    assert.deepEqual([strikes.reason('a'), strikes.reason('c')], [undefined, undefined]);
  });
});
