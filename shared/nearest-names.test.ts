import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearestHint, nearestNames } from './nearest-names.ts';

const COMMANDS = ['train', 'tasks', 'status', 'top', 'ls', 'mixture'];

for (const [name, expected] of [
  ['trian', ['train']],
  ['TRAIN', ['train']],
  ['stat', ['status']],
  ['lss', ['ls']],
  ['foo', []],
  ['x', []],
  ['', []],
] as const)
  test(`the names near to ${JSON.stringify(name)} are ${JSON.stringify(expected)}`, () => {
    assert.deepEqual(nearestNames(name, COMMANDS), expected);
  });

test('a hint without a near name says something else', () => {
  assert.equal(nearestHint('foo', COMMANDS, 'known: …'), 'known: …');
  assert.equal(nearestHint('trian', COMMANDS, 'known: …'), 'did you mean train?');
});
