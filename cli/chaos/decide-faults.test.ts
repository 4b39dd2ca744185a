import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FAULTS, parseChaosSpec } from './chaos-spec.ts';
import { decideFaults, type Population } from './decide-faults.ts';

const THREE: Population = { workers: ['a', 'b', 'c'], maxWorkers: 4, silenceMs: 4_500 };
const STEPS = Array.from({ length: 2_000 }, (_, i) => i + 1);

describe('faults after a step', () => {
  test('a scheduled fault comes once for each mention, after its step only', () => {
    const spec = parseChaosSpec('coordinator-kill@5,join@5,kill@5,kill@5');
    const decided = decideFaults(1, 5, spec, THREE).map(({ fault, forMs }) => [fault, forMs]);
    assert.deepEqual(decided, [
      ['kill', 0],
      ['kill', 0],
      ['join', 0],
      ['coordinator-kill', 0],
    ]);
    for (const step of [4, 6]) assert.deepEqual(decideFaults(1, step, spec, THREE), []);
  });

  test('the same seed, step and population give the same decisions; another seed gives others', () => {
    const spec = parseChaosSpec(FAULTS.map((fault) => `${fault}=0.3`).join(','));
    const all = (seed: number) => STEPS.map((step) => decideFaults(seed, step, spec, THREE));
    assert.deepEqual(all(1), all(1));
    assert.notDeepEqual(all(1), all(2));
  });

  test('a fault comes with its probability and hits all workers equally often', () => {
    const decided = STEPS.flatMap((step) => decideFaults(3, step, parseChaosSpec('kill=0.3'), THREE));
    assert.ok(Math.abs(decided.length / STEPS.length - 0.3) < 0.04, `${decided.length} of ${STEPS.length}`);
    for (const workerId of THREE.workers) {
      const share = decided.filter((fault) => fault.workerId === workerId).length / decided.length;
      assert.ok(Math.abs(share - 1 / 3) < 0.08, `${workerId} has ${share}`);
    }
  });

  test('another rule does not change the decisions of the others', () => {
    const of = (text: string) =>
      STEPS.flatMap((step) => decideFaults(1, step, parseChaosSpec(text), THREE)).filter(
        ({ fault }) => fault === 'stop',
      );
    assert.deepEqual(of('stop=0.1'), of('kill=0.5,stop=0.1,leave=0.5'));
  });

  test('a stop lasts some seconds, at times so long that the worker is dropped', () => {
    const times = STEPS.flatMap((step) => decideFaults(1, step, parseChaosSpec('stop=1'), THREE)).map(
      ({ forMs }) => forMs,
    );
    const long = times.filter((ms) => ms > THREE.silenceMs);
    assert.ok(Math.abs(long.length / times.length - 0.4) < 0.05);
    assert.ok(long.every((ms) => ms >= 5_000 && ms <= 7_500));
    assert.ok(times.every((ms) => long.includes(ms) || (ms >= 500 && ms <= 3_000)));
  });

  const nobody: Population = { ...THREE, workers: [] };
  const one: Population = { ...THREE, workers: ['a'] };
  const full: Population = { ...THREE, maxWorkers: 3 };
  const cases: readonly [string, Population, readonly string[]][] = [
    ['three of four', THREE, ['kill', 'stop', 'leave', 'join', 'coordinator-kill']],
    ['one worker: it is not sent away', one, ['kill', 'stop', 'join', 'coordinator-kill']],
    ['no workers: no worker is hit', nobody, ['join', 'coordinator-kill']],
    ['the maximum of workers: none joins', full, ['kill', 'stop', 'leave', 'coordinator-kill']],
  ];
  for (const [name, population, expected] of cases)
    test(name, () => {
      const spec = parseChaosSpec(FAULTS.map((fault) => `${fault}=1`).join(','));
      const decided = decideFaults(1, 1, spec, population).map(({ fault }) => fault);
      assert.deepEqual(decided, expected);
    });
});
