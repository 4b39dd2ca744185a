import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decideRestart, type EndedWorker, type RestartDecision, type WorkerEnd } from './restart-rule.ts';

const OPTIONS = { limit: 3, firstPauseMs: 100, longestPauseMs: 350 };
const KILLED: WorkerEnd = { kind: 'killed', signal: 'SIGKILL' };
const exited = (status: number): WorkerEnd => ({ kind: 'exited', status });

function decide(end: WorkerEnd, change: Partial<EndedWorker> = {}, options = OPTIONS): RestartDecision {
  return decideRestart(
    { end, numRestarts: 0, hasProgressed: false, isStopping: false, isDismissed: false, ...change },
    options,
  );
}

const leave = (reason: string): RestartDecision => ({ kind: 'leave', reason });
const giveUp = (reason: string): RestartDecision => ({ kind: 'give-up', reason });
const restart = (afterMs: number, attempt: number, ended: string): RestartDecision => ({
  kind: 'restart',
  afterMs,
  attempt,
  reason: `${ended}; restart ${attempt} of at most 3 without a committed step, in ${afterMs} ms`,
});

describe('the decision for a worker that', () => {
  const table: readonly (readonly [string, RestartDecision, RestartDecision])[] = [
    ['was killed: restarted after the first pause', decide(KILLED), restart(100, 1, 'ended with SIGKILL')],
    ['was killed again: the pause doubles', decide(KILLED, { numRestarts: 1 }), restart(200, 2, 'ended with SIGKILL')],
    [
      'was killed a third time: the longest pause',
      decide(KILLED, { numRestarts: 2 }),
      restart(350, 3, 'ended with SIGKILL'),
    ],
    [
      'has used up its restarts',
      decide(KILLED, { numRestarts: 3 }),
      giveUp('ended with SIGKILL, after 3 restarts without a committed step'),
    ],
    [
      'has used up its restarts before a step was committed: restarted after the first pause',
      decide(KILLED, { numRestarts: 3, hasProgressed: true }),
      restart(100, 1, 'ended with SIGKILL'),
    ],
    [
      'has used up its only restart',
      decide(KILLED, { numRestarts: 1 }, { ...OPTIONS, limit: 1 }),
      giveUp('ended with SIGKILL, after 1 restart without a committed step'),
    ],
    ['may never be restarted', decide(KILLED, {}, { ...OPTIONS, limit: 0 }), giveUp('ended with SIGKILL')],
    ['failed in the run', decide(exited(4)), restart(100, 1, 'ended with status 4')],
    ['crashed', decide(exited(1)), restart(100, 1, 'ended with status 1')],
    ['was interrupted', decide(exited(130)), restart(100, 1, 'ended with status 130')],
    [
      'was used wrongly',
      decide(exited(2)),
      giveUp('ended with status 2 (usage or config), which would be the same after a restart'),
    ],
    ['has bad data', decide(exited(3)), giveUp('ended with status 3 (data), which would be the same after a restart')],
    [
      'has bad data after some progress',
      decide(exited(3), { hasProgressed: true }),
      giveUp('ended with status 3 (data), which would be the same after a restart'),
    ],
    ['exited with 0', decide(exited(0)), leave('ended with status 0: the run is over for it')],
    [
      'exited with 0 and has used up its restarts',
      decide(exited(0), { numRestarts: 3 }),
      leave('ended with status 0: the run is over for it'),
    ],
    [
      'was adopted and ended',
      decide({ kind: 'vanished' }),
      restart(100, 1, 'ended with unknown status (an adopted process)'),
    ],
    [
      'was adopted, was dismissed and ended',
      decide({ kind: 'vanished' }, { isDismissed: true }),
      leave('ended with unknown status (an adopted process) after it was dismissed'),
    ],
    [
      'could not be started',
      decide({ kind: 'not-started', reason: 'spawn EAGAIN' }),
      restart(100, 1, 'could not be started: spawn EAGAIN'),
    ],
    ['is stopped', decide(exited(2), { isStopping: true }), leave('ended with status 2 while the workers are stopped')],
    [
      'fails after its dismissal',
      decide(exited(4), { isDismissed: true }),
      leave('ended with status 4 after it was dismissed'),
    ],
  ];
  for (const [name, found, expected] of table) test(name, () => assert.deepEqual(found, expected));

  test('for any limit there are exactly so many restarts, and their pauses never shrink and stay within bounds', () => {
    const count = fc.integer({ min: 0, max: 3_000 });
    fc.assert(
      fc.property(count, count, count, (limit, firstPauseMs, more) => {
        const options = { limit, firstPauseMs, longestPauseMs: firstPauseMs + more };
        let pauseMs = firstPauseMs;
        let numRestarts = 0;
        for (;;) {
          const decision = decide(KILLED, { numRestarts }, options);
          if (decision.kind !== 'restart') break;
          assert.ok(decision.afterMs >= pauseMs && decision.afterMs <= options.longestPauseMs);
          pauseMs = decision.afterMs;
          numRestarts = decision.attempt;
        }
        assert.equal(numRestarts, limit);
      }),
    );
  });
});
