import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RandomStream } from '../../shared/random.ts';
import { Arena, planArena } from './arena.ts';
import { planBuckets } from './bucket-plan.ts';
import { checksumNaively } from '../collective/lane-gradients.fixture.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import { combineChecksums, emptyChecksum, finishChecksum } from './line-checksum.ts';

const plan = planBuckets([{ name: 'w', numElements: 16384 }], 65536);
const arena = new Arena(
  planArena({ plan, laneTree: planLaneTree(1, [{ first: 0, end: 1 }]), rank: 0, frameBytes: 64, window: 1 }),
);
const at = arena.slotAddress(0, 0);

function fill(numLines: number, seed: number): Buffer {
  const random = new RandomStream([seed]);
  const bytes = arena.bytes(at, numLines * 64);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(random.nextUint32(), i);
  return bytes;
}

test('the kernel computes the state of the definition', () => {
  fc.assert(
    fc.property(fc.nat(100), fc.nat(), (numLines, seed) => {
      const bytes = fill(numLines, seed);
      assert.equal(finishChecksum(arena.checksum(at, bytes.length)), checksumNaively(bytes));
    }),
  );
});

test('states combine as if their lines had been one sequence, wherever it is cut', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.array(fc.nat(200), { maxLength: 4 }), fc.nat(), (numLines, cuts, seed) => {
      const bytes = fill(numLines, seed);
      const bounds = [0, ...cuts.map((cut) => Math.min(cut, numLines)).sort((a, b) => a - b), numLines];
      let state = emptyChecksum();
      for (let i = 1; i < bounds.length; i++) {
        const length = (bounds[i]! - bounds[i - 1]!) * 64;
        state = combineChecksums(state, arena.checksum(at + bounds[i - 1]! * 64, length), length);
      }
      assert.equal(finishChecksum(state), checksumNaively(bytes));
    }),
  );
});

test('finds every flipped bit, and exchanged, shifted, repeated or zeroed lines', () => {
  const numLines = 40;
  const bytes = fill(numLines, 1);
  const original = Buffer.from(bytes);
  const checksum = (): number => finishChecksum(arena.checksum(at, bytes.length));
  const expected = checksum();
  for (let bit = 0; bit < bytes.length * 8; bit += 7) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    assert.notEqual(checksum(), expected);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
  for (let i = 0; i < numLines; i++)
    for (let j = 0; j < i; j++) {
      original.copy(bytes, i * 64, j * 64, j * 64 + 64);
      assert.notEqual(checksum(), expected, `line ${j} again at ${i}`);
      original.copy(bytes, j * 64, i * 64, i * 64 + 64);
      assert.notEqual(checksum(), expected, `lines ${i} and ${j} exchanged`);
      original.copy(bytes);
    }
  original.copy(bytes, 4, 0, bytes.length - 4);
  assert.notEqual(checksum(), expected);
  original.copy(bytes);
  bytes.fill(0, 1024, 1088);
  assert.notEqual(checksum(), expected);
});

test('finds every pair of flips of one bit of one column, and random double and triple flips', () => {
  const bytes = fill(200, 2);
  const original = Buffer.from(bytes);
  const expected = finishChecksum(arena.checksum(at, bytes.length));
  const check = (what: string): void => {
    assert.notEqual(finishChecksum(arena.checksum(at, bytes.length)), expected, what);
    original.copy(bytes);
  };
  for (const bit of [0, 15, 31])
    for (let line = 1; line < 200; line++) {
      for (const flipped of [0, line]) bytes[flipped * 64 + 12 + (bit >> 3)]! ^= 1 << (bit & 7);
      check(`bit ${bit} of lines 0 and ${line}`);
    }
  const random = new RandomStream([7]);
  for (let i = 0; i < 2000; i++) {
    const bits = new Set(Array.from({ length: 2 + (i % 2) }, () => random.nextBelow(bytes.length * 8)));
    for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7);
    check(`bits ${[...bits].join(', ')}`);
  }
});
