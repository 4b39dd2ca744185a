import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LinkPauses } from './link-pauses.ts';

describe('LinkPauses', () => {
  test('pauses grow while a worker is on trial, up to an hour', () => {
    const pauses = new LinkPauses();
    let nowMs = 0;
    const found: number[] = [];
    for (let i = 0; i < 10; i++) {
      const pauseMs = pauses.begin('a', nowMs);
      found.push(pauseMs / 1_000);
      assert.equal(pauses.isLeftOut('a', nowMs + pauseMs - 1), true);
      nowMs += pauseMs;
      assert.equal(pauses.isLeftOut('a', nowMs), false);
      assert.equal(pauses.isOnTrial('a', nowMs + 1e9), true, 'however long no generation is formed with it');
      pauses.formed('a', nowMs);
    }
    assert.deepEqual(found, [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]);
  });

  test('a worker whose links held for as long as its pause starts anew', () => {
    const pauses = new LinkPauses();
    pauses.begin('a', 0);
    pauses.formed('a', 40_000);
    pauses.formed('a', 60_000); // a later generation
    assert.equal(pauses.isOnTrial('a', 69_999), true);
    assert.equal(pauses.isOnTrial('a', 70_000), false);
    assert.equal(pauses.begin('a', 70_000), 30_000);
  });

  test('a worker without trouble is neither left out nor on trial', () => {
    const pauses = new LinkPauses();
    pauses.begin('a', 0);
    pauses.formed('b', 0);
    assert.deepEqual([pauses.isLeftOut('b', 1), pauses.isOnTrial('b', 1)], [false, false]);
  });
});
