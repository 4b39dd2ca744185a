import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { measureRecovery, stepTimeBefore, type LogFields } from './recovery-times.ts';

const at = (ms: number, msg: string, fields: LogFields = {}): LogFields => ({
  time: new Date(ms).toISOString(),
  msg,
  ...fields,
});

describe('cost of a disturbance', () => {
  test('a step of the old generation that is committed after the signal does not end the recovery', () => {
    const records = [
      at(100, 'step committed'),
      at(210, 'step committed'), // it was in progress
      at(220, 'generation ended'),
      at(300, 'generation formed'),
      at(450, 'step committed'),
    ];
    assert.equal(measureRecovery('kill', records.slice(0, 4), 200), undefined);
    assert.deepEqual(measureRecovery('kill', records, 200), {
      phases: [
        { name: 'detection', ms: 20 },
        { name: 'repair', ms: 80 },
        { name: 'first step', ms: 150 },
      ],
      totalMs: 250,
      pauseMs: 240,
    });
  });

  test('only records of the joining worker end its phases', () => {
    const records = [
      at(50, 'step committed'),
      at(100, 'worker joined', { workerId: 'other' }),
      at(110, 'worker joined', { workerId: 'own' }),
      at(120, 'worker ready', { workerId: 'other' }),
      at(130, 'generation changes'),
      at(140, 'generation formed', { members: ['other'] }),
      at(150, 'worker ready', { workerId: 'own' }),
      at(160, 'generation changes'),
      at(170, 'generation formed', { members: ['other', 'own'] }),
      at(190, 'step committed'),
    ];
    const recovery = measureRecovery('join', records, 60, 'own')!;
    assert.deepEqual(
      recovery.phases.map(({ ms }) => ms),
      [50, 40, 10, 10, 20],
    );
    assert.deepEqual([recovery.totalMs, recovery.pauseMs], [130, 140]);
  });

  test('records before the signal are ignored', () => {
    const records = [at(10, 'generation ended'), at(20, 'generation formed'), at(30, 'step committed')];
    assert.equal(measureRecovery('stop', records, 40), undefined);
  });

  test('the step time is that of the steps before the given moment', () => {
    const records = [0, 900, 1000, 1100, 1300].map((ms) => at(ms, 'step committed'));
    assert.equal(stepTimeBefore(records, 1200, 2), 100);
  });
});
