import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { CopyProgress, MAX_REPEATS } from './copy-progress.ts';
import { STATE_WINDOW } from './state-frames.ts';

/** Takes until the window is full or nothing is left. */
function askForAll(progress: CopyProgress, holder: number): number[] {
  const pieces: number[] = [];
  for (let piece = progress.next(holder); piece !== null; piece = progress.next(holder)) pieces.push(piece);
  return pieces;
}

describe('CopyProgress', () => {
  test('deals the next pieces to whoever has room, at most a window', () => {
    const progress = new CopyProgress(10);
    assert.deepEqual(askForAll(progress, 3), [0, 1, 2, 3]);
    assert.deepEqual(askForAll(progress, 5), [4, 5, 6, 7]);
    progress.arrived(5, 6);
    assert.deepEqual(askForAll(progress, 5), [8]);
    assert.deepEqual(askForAll(progress, 3), []);
    assert.equal(progress.numUnderWay(3), STATE_WINDOW);
    assert.equal(progress.numArrived, 1);
    assert.ok(progress.isUnderWay(5, 4) && !progress.isUnderWay(5, 6) && !progress.isUnderWay(3, 4));
  });

  test('gives a lost holder’s pieces to the others first', () => {
    const progress = new CopyProgress(10);
    askForAll(progress, 3);
    progress.arrived(3, 1);
    progress.drop(3);
    assert.deepEqual(askForAll(progress, 5), [0, 2, 3, 4]);
    assert.equal(progress.numUnderWay(3), 0);
  });

  test('lets a piece be asked of one holder a few times, and anew of the next', () => {
    const progress = new CopyProgress(1);
    for (const holder of [3, 5]) {
      askForAll(progress, holder);
      const again = Array.from({ length: MAX_REPEATS + 1 }, () => progress.failedChecksum(holder, 0));
      assert.deepEqual(again, [true, true, false]);
      progress.drop(holder);
    }
    assert.ok(!progress.isDone);
  });

  test('whatever fails in whatever order, each piece arrives once while a holder is left', () => {
    const numHolders = 3;
    const event = fc.record({ holder: fc.nat(numHolders - 1), place: fc.nat(STATE_WINDOW), isLost: fc.boolean() });
    fc.assert(
      fc.property(fc.nat(40), fc.array(event, { maxLength: 60 }), (numPieces, events) => {
        const progress = new CopyProgress(numPieces);
        const underWay = new Map(Array.from({ length: numHolders }, (_, holder) => [holder, [] as number[]]));
        const arrived = new Set<number>();
        const step = (holder: number, place: number): void => {
          const pieces = underWay.get(holder)!;
          pieces.push(...askForAll(progress, holder));
          assert.ok(pieces.length <= STATE_WINDOW && pieces.length === progress.numUnderWay(holder));
          const [piece] = pieces.splice(place % Math.max(1, pieces.length), 1);
          if (piece === undefined) return;
          assert.ok(progress.isUnderWay(holder, piece) && !arrived.has(piece));
          arrived.add(piece);
          progress.arrived(holder, piece);
        };
        for (const { holder, place, isLost } of events) {
          if (!underWay.has(holder)) continue;
          if (isLost && underWay.size > 1) {
            progress.drop(holder);
            underWay.delete(holder);
          } else step(holder, place);
        }
        for (let i = 0; i <= numPieces; i++) for (const holder of underWay.keys()) step(holder, 0);
        assert.equal(arrived.size, numPieces);
        assert.equal(progress.numArrived, numPieces);
        assert.ok(progress.isDone);
      }),
    );
  });
});
