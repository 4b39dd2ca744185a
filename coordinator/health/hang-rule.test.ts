import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { workerPhaseSchema } from '../../shared/protocol/messages.ts';
import { findHung, planHangLimits, type HangMember } from './hang-rule.ts';
import { RecentTimes } from '../step/step-times.ts';

const TIMEOUTS = { stepTimeoutMs: 600_000, sourceTimeoutMs: 300_000 };
const NOW_MS = 1_000_000;

function limitsOf(...stepMs: number[]) {
  const times = new RecentTimes();
  for (const ms of stepMs) times.add(ms);
  return planHangLimits(times, TIMEOUTS);
}

/** In 10 s units of the limit: steps of 0.4 s. */
const limits = limitsOf(400, 400, 400);

describe('the limit', () => {
  for (const [stepMs, limitMs, reason] of [
    [[], 600_000, 'the deadline of a step'],
    [[100, 100], 600_000, 'the deadline of a step'],
    [[100, 100, 100], 10_000, 'the minimum, for steps of 0.10 s'],
    [[9_000, 100, 1_000], 10_000, 'the minimum, for steps of 1.0 s'],
    [[2_000, 1_500, 90_000], 20_000, '10 median steps of 2.0 s'],
    [[60_000, 60_000, 60_000], 600_000, 'the deadline of a step'],
    [[90_000, 90_000, 90_000], 600_000, 'the deadline of a step'],
  ] as const)
    test(`after steps of ${stepMs.join(', ')} ms is ${limitMs} ms`, () => {
      assert.deepEqual(limitsOf(...stepMs), { limitMs, reason, ...TIMEOUTS });
    });

  test('is never above the deadline of a step, even if that is under ten seconds', () => {
    const times = new RecentTimes();
    for (let i = 0; i < 3; i++) times.add(1);
    assert.equal(planHangLimits(times, { stepTimeoutMs: 2_000, sourceTimeoutMs: 1 }).limitMs, 2_000);
  });
});

type Line = readonly [phase: HangMember['phase'], stillMs: number, changes?: Partial<HangMember>];

const membersOf = (lines: readonly Line[]): HangMember[] =>
  lines.map(([phase, stillMs, changes], rank) => ({
    rank,
    workerId: `w${rank}`,
    phase,
    movedAtMs: NOW_MS - stillMs,
    heardAtMs: NOW_MS,
    stalledMs: 0,
    hasReported: false,
    ...changes,
  }));

describe('findHung', () => {
  for (const [what, lines, expected] of [
    [
      'all compute and move',
      [
        ['compute', 900],
        ['feed', 200],
        ['update', 10_000],
      ],
      'none',
    ],
    [
      'one is still, the others wait for it',
      [
        ['communicate', 15_000],
        ['compute', 10_001],
        ['communicate', 9_000],
      ],
      [1],
    ],
    [
      'one is still in the feed without a word of its source',
      [
        ['communicate', 60_000],
        ['feed', 12_000],
      ],
      [1],
    ],
    [
      'one is still in the update',
      [
        ['update', 12_000],
        ['waiting', 12_000, { hasReported: true }],
      ],
      [0],
    ],
    [
      'one is still while another computes and moves',
      [
        ['compute', 50_000],
        ['compute', 300],
        ['communicate', 50_000],
      ],
      'none',
    ],
    [
      'the other has come to its end and waits too',
      [
        ['compute', 50_000],
        ['communicate', 300],
        ['communicate', 50_000],
      ],
      [0],
    ],
    [
      'who has reported moves, which proves nothing',
      [
        ['compute', 50_000],
        ['compute', 300, { hasReported: true }],
      ],
      [0],
    ],
    [
      'who has reported is still, which is no matter of this step',
      [
        ['compute', 50_000, { hasReported: true }],
        ['compute', 3],
      ],
      'none',
    ],
    [
      'two are still',
      [
        ['compute', 11_000],
        ['communicate', 20_000],
        ['compute', 19_000],
      ],
      [0, 2],
    ],
    [
      'one is still, the other nearly',
      [
        ['compute', 11_000],
        ['compute', 9_999],
      ],
      'none',
    ],
    [
      'still, but its source does not answer',
      [
        ['communicate', 90_000],
        ['feed', 90_000, { stalledMs: 85_000 }],
      ],
      'none',
    ],
    [
      'still for longer than its source explains',
      [
        ['communicate', 90_000],
        ['feed', 90_000, { stalledMs: 75_000 }],
      ],
      [1],
    ],
    [
      'a source excuses up to its own deadline',
      [
        ['communicate', 90_000],
        ['feed', 320_000, { stalledMs: 320_000 }],
      ],
      [1],
    ],
    ['one is silent: still only as far as was heard', [['compute', 25_000, { heardAtMs: NOW_MS - 20_000 }]], 'none'],
    ['one was heard after it had been still', [['compute', 25_000, { heardAtMs: NOW_MS - 2_000 }]], [0]],
    [
      'one copies its memory for a checkpoint',
      [
        ['communicate', 60_000],
        ['save', 60_000],
      ],
      'none',
    ],
    [
      'one copies its memory without end',
      [
        ['communicate', 700_000],
        ['save', 600_001],
      ],
      [1],
    ],
    [
      'all are in communicate',
      [
        ['communicate', 10_001],
        ['communicate', 30_000],
      ],
      'links',
    ],
    [
      'the last has just come to communicate',
      [
        ['communicate', 10_000],
        ['communicate', 30_000],
      ],
      'none',
    ],
    [
      'all that have not reported are in communicate',
      [
        ['waiting', 99_000, { hasReported: true }],
        ['communicate', 12_000],
      ],
      'links',
    ],
    [
      'one waits for its deal',
      [
        ['waiting', 60_000],
        ['communicate', 60_000],
      ],
      'none',
    ],
    ['alone in communicate', [['communicate', 12_000]], [0]],
    [
      'all have reported',
      [
        ['waiting', 99_000, { hasReported: true }],
        ['compute', 99_000, { hasReported: true }],
      ],
      'none',
    ],
    ['there are no members', [], 'none'],
  ] satisfies [string, Line[], 'none' | 'links' | number[]][])
    test(`${what}: ${Array.isArray(expected) ? `blames ${expected.join(' and ')}` : expected}`, () => {
      const verdict = findHung(limits, membersOf(lines));
      if (Array.isArray(expected)) {
        assert.ok(verdict.kind === 'ranks');
        assert.deepEqual(verdict.ranks, expected);
      } else assert.equal(verdict.kind, expected);
    });

  test('the sentences name rank, phase, duration and limit', () => {
    const reasonOf = (lines: readonly Line[]): string => {
      const verdict = findHung(limits, membersOf(lines));
      assert.ok(verdict.kind !== 'none');
      return verdict.reason;
    };
    assert.equal(
      reasonOf([
        ['communicate', 15_000],
        ['feed', 42_000, { stalledMs: 30_000 }],
      ]),
      'rank 1 (w1) has not moved in feed for 12.0 s, not counting 30.0 s without a source (limit 10.0 s: the minimum, for steps of 0.40 s)',
    );
    assert.match(reasonOf([['save', 601_000]]), /in save for 601\.0 s \(limit 600\.0 s: the deadline of a step\)$/u);
    assert.equal(
      reasonOf([
        ['communicate', 15_000],
        ['communicate', 12_000],
      ]),
      'no rank computes, and rank 0 (w0) and rank 1 (w1) have waited in communicate for 12.0 s ' +
        '(limit 10.0 s: the minimum, for steps of 0.40 s): the links do not deliver',
    );
  });

  test('any state: a blamed rank works, is late and makes no progress, and no working rank makes progress', () => {
    const member = fc.record({
      phase: fc.constantFrom(...workerPhaseSchema.options),
      stillMs: fc.integer({ min: 0, max: 20_000 }),
      hasReported: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(member, { minLength: 2, maxLength: 6 }), (states) => {
        const members = membersOf(states.map(({ phase, stillMs, hasReported }) => [phase, stillMs, { hasReported }]));
        const verdict = findHung(limits, members);
        const late = states.filter((state) => !state.hasReported);
        const isWaiting = ({ phase }: { phase: string }): boolean => phase === 'communicate' || phase === 'waiting';
        if (verdict.kind === 'ranks') {
          assert.ok(verdict.ranks.length > 0);
          for (const rank of verdict.ranks) {
            const { phase, stillMs, hasReported } = states[rank]!;
            assert.ok(!hasReported && !isWaiting({ phase }) && stillMs > 10_000);
          }
        }
        if (verdict.kind !== 'none') for (const state of late) assert.ok(isWaiting(state) || state.stillMs > 10_000);
        if (verdict.kind === 'links') for (const { phase } of late) assert.equal(phase, 'communicate');
      }),
      { numRuns: 500 },
    );
  });
});
