import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  ALL_FAULTS,
  describeSchedule,
  planSchedule,
  shrinkSchedule,
  type FaultKind,
  type Schedule,
  type ScheduleOptions,
} from './schedule.ts';

const OPTIONS: ScheduleOptions = {
  numWorkers: 3,
  spanMs: 500,
  spanEvents: 800,
  maxFaults: 5,
  weights: ALL_FAULTS,
  maxPauseMs: 8_000,
};

describe('fault schedules', () => {
  test('a seed always gives the same schedule, and the schedules of many seeds contain every kind of fault', () => {
    const seen = new Map<FaultKind, number>();
    const texts = new Set<string>();
    for (let seed = 0; seed < 500; seed++) {
      const schedule = planSchedule(seed, OPTIONS);
      assert.deepEqual(planSchedule(seed, OPTIONS), schedule);
      assert.ok(schedule.faults.length >= 1 && schedule.faults.length <= 5);
      for (const { kind, at } of schedule.faults) {
        seen.set(kind, (seen.get(kind) ?? 0) + 1);
        assert.ok('afterMs' in at ? at.afterMs < 500 : at.afterEvents < 800);
      }
      texts.add(describeSchedule(schedule));
    }
    assert.ok(texts.size > 490);
    for (const kind of Object.keys(ALL_FAULTS) as FaultKind[]) assert.ok((seen.get(kind) ?? 0) > 20, kind);
    assert.ok(seen.get('crash-worker')! > 2 * seen.get('half-open')!);
  });

  test('a wrong state or digest is drawn only without faults that remove workers, and at most one gradient is not finite', () => {
    const survivable = ['join-worker', 'stop-coordinator', 'not-finite'];
    let numCorrupting = 0;
    for (let seed = 0; seed < 500; seed++) {
      const kinds = planSchedule(seed, OPTIONS).faults.map(({ kind }) => kind);
      assert.ok(kinds.filter((kind) => kind === 'not-finite').length <= 1);
      const wrong = kinds.filter((kind) => kind === 'flip-state' || kind === 'wrong-digest');
      if (wrong.length === 0) continue;
      numCorrupting += 1;
      assert.equal(wrong.length, 1);
      assert.deepEqual(
        kinds.filter((kind) => kind !== wrong[0] && !survivable.includes(kind)),
        [],
      );
    }
    assert.ok(numCorrupting > 20);
  });

  test('a kind without a weight is never drawn', () => {
    for (let seed = 0; seed < 100; seed++)
      for (const { kind } of planSchedule(seed, { ...OPTIONS, weights: { 'stop-worker': 1 } }).faults)
        assert.equal(kind, 'stop-worker');
  });

  test('is printed with its seed, one line per fault', () => {
    const schedule: Schedule = {
      seed: 41,
      faults: [
        { at: { afterMs: 12 }, kind: 'crash-worker', worker: 1, restartAfterMs: null },
        { at: { afterEvents: 90 }, kind: 'partition', worker: 0, from: 'all', forMs: 70, connections: 'held' },
      ],
    };
    assert.equal(
      describeSchedule(schedule),
      'seed 41\n  after 12 ms: crash-worker worker=1 restartAfterMs=never\n  after 90 events: partition worker=0 from=all forMs=70 connections=held',
    );
  });

  test('shrinks to faults that are all needed', async () => {
    const kinds = (schedule: Schedule): string[] => schedule.faults.map(({ kind }) => kind);
    const full: Schedule = {
      seed: 1,
      faults: [
        { at: { afterMs: 1 }, kind: 'join-worker' },
        { at: { afterMs: 2 }, kind: 'crash-coordinator', restartAfterMs: 5 },
        { at: { afterMs: 3 }, kind: 'cut-connection', connection: 4 },
        { at: { afterMs: 4 }, kind: 'stop-worker', worker: 0, forMs: 9 },
        { at: { afterMs: 5 }, kind: 'join-worker' },
      ],
    };
    let numRuns = 0;
    const fails = (schedule: Schedule): Promise<boolean> => {
      numRuns += 1;
      const found = kinds(schedule);
      return Promise.resolve(found.includes('crash-coordinator') && found.includes('stop-worker'));
    };
    const smallest = await shrinkSchedule(full, fails);
    assert.deepEqual([kinds(smallest), smallest.seed], [['crash-coordinator', 'stop-worker'], 1]);
    assert.ok(numRuns <= 25);
  });
});
