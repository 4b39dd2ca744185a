import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { planWindows, type WindowsInit } from './frame-windows.ts';

const MIB = 2 ** 20;
const INIT: WindowsInit = {
  roundTripsMs: [0, 0],
  numCoverNodes: [1, 1],
  slotBytes: MIB / 2,
  windowFrames: 2,
  maxWindowBytes: 64 * MIB,
};

describe('planWindows', () => {
  const table: [string, Partial<WindowsInit>, number[]][] = [
    ['a short way has the window that is configured', { roundTripsMs: [0, 0.4] }, [2, 2]],
    [
      'a long way has what 10 Gbit/s carry of parts in a round trip, and one, rounded up',
      { roundTripsMs: [0, 40] },
      [2, 64],
    ],
    ['each peer has its own', { roundTripsMs: [0, 40, 0.1], numCoverNodes: [1, 1, 1] }, [2, 32, 2]],
    ['no more than the memory of all peers', { roundTripsMs: [0, 4000] }, [2, 128]],
    [
      'a piece of three cover nodes needs the memory of three',
      { roundTripsMs: [0, 4000], numCoverNodes: [1, 3] },
      [2, 42],
    ],
    ['never less than what is configured', { roundTripsMs: [0, 40], maxWindowBytes: 1 }, [2, 2]],
    ['a world of one', { roundTripsMs: [0], numCoverNodes: [1] }, [2]],
  ];
  for (const [name, init, expected] of table)
    test(name, () => {
      assert.deepEqual(planWindows({ ...INIT, ...init }), expected);
    });

  test('windows above the configured one fit the bound, for any round trips', () => {
    const ways = fc.array(
      fc.record({ ms: fc.double({ min: 0, max: 1e4, noNaN: true }), nodes: fc.integer({ min: 1, max: 6 }) }),
      {
        minLength: 2,
        maxLength: 9,
      },
    );
    fc.assert(
      fc.property(ways, fc.integer({ min: 0, max: 2 ** 28 }), (peers, maxWindowBytes) => {
        const numCoverNodes = peers.map(({ nodes }) => nodes);
        const windows = planWindows({
          ...INIT,
          roundTripsMs: peers.map(({ ms }) => ms),
          numCoverNodes,
          maxWindowBytes,
        });
        const longer = windows.map((window, peer) => (window > 2 ? window * numCoverNodes[peer]! * INIT.slotBytes : 0));
        assert.ok(windows.every((window) => Number.isInteger(window) && window >= 2));
        assert.ok(longer.slice(1).reduce((sum, bytes) => sum + bytes, 0) <= maxWindowBytes);
      }),
    );
  });
});
