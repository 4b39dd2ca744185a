import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assignLanes } from '../../shared/assign-lanes.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { SpeedWatch } from './speed-watch.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';
import { WorkerSpeeds } from './lane-speeds.ts';

const NUM_LANES = 8;

/** Two ranks of four lanes each. */
function start(rebalance: boolean) {
  const records: LogRecord[] = [];
  const speeds = new WorkerSpeeds();
  const config = { cluster: { rebalance }, training: { numLanes: NUM_LANES } } as RunConfig;
  const members = ['a', 'b'].map((workerId) => ({ workerId }) as unknown as WorkerHandle);
  const generation = { members, runs: assignLanes(NUM_LANES, 2).runs };
  const log = createLogger({ onRecord: (record) => records.push(record) });
  const watch = new SpeedWatch({ config, generation, speeds, log });
  let step = 0;
  /** Steps in which the ranks compute for so long, ms. */
  const observe = (numSteps: number, ...computeMs: number[]): void => {
    const total = Math.max(...computeMs);
    for (let i = 0; i < numSteps; i++) {
      const rankMs = computeMs.map((compute) => ({ feed: 0, compute, communicate: 0, update: 0, total }));
      watch.observe({ step: ++step, rankMs });
    }
  };
  return { watch, speeds, records, observe };
}

describe('speed watch', () => {
  test('logs a slow rank, keeps the sentence while it is slow, and logs its recovery', () => {
    const { watch, records, observe } = start(false);
    observe(10, 400, 400);
    assert.deepEqual(watch.slow, []);
    observe(10, 400, 1000);
    assert.match(watch.slow.join(), /rank 1 \(b\) is slow/u);
    observe(30, 400, 400);
    assert.deepEqual(watch.slow, []);
    const told = records.filter(({ msg }) => msg === 'straggler').map(({ level, workerId }) => [level, workerId]);
    assert.deepEqual(told, [
      ['warn', 'b'],
      ['info', 'b'],
    ]);
  });

  test('records the speeds, and asks for other lanes only with cluster.rebalance', () => {
    for (const rebalance of [false, true]) {
      const { watch, speeds, observe } = start(rebalance);
      observe(40, 400, 1000);
      const [a, b] = speeds.of(['a', 'b'])!;
      assert.deepEqual([Math.round(a!), Math.round(b!)], [10, 4]);
      assert.equal(watch.rebalanceReason !== undefined, rebalance);
    }
  });

  test('a step that was committed without some ranks counts for nothing', () => {
    const { watch, speeds, observe } = start(true);
    observe(40, 400);
    assert.deepEqual([watch.slow, speeds.of(['a'])], [[], undefined]);
  });
});
