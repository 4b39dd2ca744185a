import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { countFaults, formatChaosReport, type ChaosRecord, type InjectedFault } from './chaos-report.ts';

const KILL: InjectedFault = {
  kind: 'injected',
  number: 1,
  time: '2026-11-23T00:00:00.000Z',
  step: 5,
  fault: 'kill',
  workerId: 'local-1',
  forMs: 0,
  notInjected: null,
};
const STOP: InjectedFault = { ...KILL, number: 2, fault: 'stop', forMs: 1_500 };
const MISSED: InjectedFault = { ...KILL, number: 3, notInjected: 'the process of local-1 is gone' };
const ENDED: ChaosRecord = {
  kind: 'ended',
  exitStatus: 0,
  step: 8,
  paramDigest: 'ab',
  undisturbedDigest: 'ab',
  numViolations: 0,
};

describe('the report of chaos', () => {
  test('lists the injected faults, the cost of each, and the end of the run', () => {
    const report = formatChaosReport([
      KILL,
      { kind: 'recovered', number: 1, step: 6, costMs: 312 },
      STOP,
      MISSED,
      { ...ENDED },
    ]);
    assert.deepEqual(
      report
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== ''),
      [
        'chaos: 1 kill, 1 stop',
        'fault  after step  worker   lasts   cost',
        'kill            5  local-1  -       0.31 s',
        'stop            5  local-1  1.50 s  no step after it',
        'kill            5  local-1  -       the process of local-1 is gone',
        'step         8',
        'parameters   ab',
        'undisturbed  the same bits',
        'ledger       clean: each example exactly once',
      ],
    );
  });

  test('counts injected faults, but not those that could not be injected', () => {
    const counts = countFaults([KILL, KILL, MISSED, STOP]);
    assert.equal(counts.get('kill'), 2);
    assert.equal(counts.get('stop'), 1);
    assert.equal(counts.get('join'), 0);
  });

  test('reports other bits and ledger violations', () => {
    const report = formatChaosReport([{ ...ENDED, undisturbedDigest: 'cd', numViolations: 2 }]);
    assert.match(report, /chaos: no faults/u);
    assert.match(report, /OTHER BITS: cd/u);
    assert.match(report, /NOT clean: 2 violations/u);
    assert.match(
      formatChaosReport([{ ...ENDED, undisturbedDigest: null, numViolations: null }]),
      /not compared.*\n.*not audited/u,
    );
  });
});
