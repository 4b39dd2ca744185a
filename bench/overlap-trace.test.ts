import assert from 'node:assert/strict';
import { test } from 'node:test';
import { traceEvents } from './overlap-trace.ts';

test('the trace has a process for each worker, and slices of its phases, its gradient groups and its buckets', () => {
  const events = traceEvents(
    [
      {
        workerId: 'local-0',
        compute: [
          { kind: 'phase', atMs: 1000, phase: 'compute', step: 4 },
          { kind: 'gradient', atMs: 1010, endMs: 1010.5, parameter: 3 },
          { kind: 'gradient', atMs: 1010.6, endMs: 1011, parameter: 2 },
          { kind: 'posted', atMs: 1011, bucket: 0 },
          { kind: 'gradient', atMs: 1015, endMs: 1016, parameter: 1 },
          { kind: 'phase', atMs: 1020, phase: 'communicate', step: 4 },
        ],
        link: [
          {
            kind: 'reduced',
            atMs: 1001,
            step: 5,
            buckets: [{ announcedMs: 10.5, finalMs: 30 }],
          },
        ],
      },
    ],
    [2 ** 20],
    ['a', 'b', 'c', 'd'],
  );
  const track = (tid: number): unknown[] =>
    events
      .filter((event) => event.tid === tid && event.ph !== 'M')
      .map(({ ph, name, ts, dur }) => [ph, name, ts, dur ?? null]);
  assert.deepEqual(track(1), [
    ['X', 'compute', 0, 20_000],
    ['X', 'communicate', 20_000, 0],
  ]);
  assert.deepEqual(track(2), [
    ['X', 'gradients 3 … 2', 10_000, 1000],
    ['X', 'gradient 1', 15_000, 1000],
    ['i', 'bucket 0 posted', 11_000, null],
  ]);
  assert.deepEqual(track(10), [['X', 'bucket 0', 11_500, 19_500]]);
  assert.deepEqual(
    events.filter(({ ph }) => ph === 'M').map(({ args }) => args!['name']),
    [
      'worker local-0',
      'compute thread: phase',
      'compute thread: gradients handed out',
      'network thread: bucket 0 (1.0 MiB)',
    ],
  );
});
