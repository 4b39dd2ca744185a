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

describe('what becomes of a worker that', () => {
  const table: readonly (readonly [string, RestartDecision, RestartDecision])[] = [
    ['was killed: again, after the first pause', decide(KILLED), restart(100, 1, 'ended with SIGKILL')],
    ['was killed again: the pause doubles', decide(KILLED, { numRestarts: 1 }), restart(200, 2, 'ended with SIGKILL')],
    [
      'was killed a third time: up to the longest pause',
      decide(KILLED, { numRestarts: 2 }),
      restart(350, 3, 'ended with SIGKILL'),
    ],
    [
      'has used up its restarts',
      decide(KILLED, { numRestarts: 3 }),
      giveUp('ended with SIGKILL, after 3 restarts without a committed step'),
    ],
    [
      'has used up its restarts, but a step was committed since: as if it were the first time',
      decide(KILLED, { numRestarts: 3, hasProgressed: true }),
      restart(100, 1, 'ended with SIGKILL'),
    ],
    [
      'has used up its only restart',
      decide(KILLED, { numRestarts: 1 }, { ...OPTIONS, limit: 1 }),
      giveUp('ended with SIGKILL, after 1 restart without a committed step'),
    ],
    ['may not be restarted at all', decide(KILLED, {}, { ...OPTIONS, limit: 0 }), giveUp('ended with SIGKILL')],
    ['failed in the run', decide(exited(4)), restart(100, 1, 'ended with status 4')],
    ['broke down', decide(exited(1)), restart(100, 1, 'ended with status 1')],
    ['was interrupted by somebody', decide(exited(130)), restart(100, 1, 'ended with status 130')],
    [
      'was used wrongly',
      decide(exited(2)),
      giveUp('ended with status 2 (usage or config), which would be the same after a restart'),
    ],
    ['has bad data', decide(exited(3)), giveUp('ended with status 3 (data), which would be the same after a restart')],
    [
      'finds after some progress that its data are bad',
      decide(exited(3), { hasProgressed: true }),
      giveUp('ended with status 3 (data), which would be the same after a restart'),
    ],
    ['ended well', decide(exited(0)), leave('ended with status 0: the run is over for it')],
    [
      'ended well, having used up its restarts',
      decide(exited(0), { numRestarts: 3 }),
      leave('ended with status 0: the run is over for it'),
    ],
    [
      'was adopted and is gone',
      decide({ kind: 'vanished' }),
      restart(100, 1, 'ended, how is not known of an adopted process'),
    ],
    [
      'was adopted, dismissed and is gone',
      decide({ kind: 'vanished' }, { isDismissed: true }),
      leave('ended, how is not known of an adopted process after it was dismissed'),
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

  test('any number of restarts: the pause never shrinks, is within its bounds, and there are exactly `limit`', () => {
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
