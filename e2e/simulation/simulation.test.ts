import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { readMemoryJournal } from './memory-journal.ts';
import { runSchedule, type RunScheduleInit } from './run-schedule.ts';
import { describeSchedule, planSchedule } from './schedule.ts';
import { Simulation } from './simulation.ts';
import { createStorm, problemsOf, STORM } from './storm.ts';
import type { ToyEngineInit } from './toy-engine.ts';

let storm: RunScheduleInit;
before(async () => {
  storm = await createStorm();
});

/** Runs to the end without faults. */
async function runUndisturbed(seed: number) {
  const simulation = new Simulation({ seed, ...storm });
  const { time } = simulation;
  const trace: string[] = [];
  time.onTrace = (ms, line) => trace.push(`${ms} ${line}`);
  simulation.startCoordinator();
  for (const name of ['w0', 'w1', 'w2']) simulation.startWorker(name);
  const isOver = (): boolean =>
    simulation.outcome !== 'working' && simulation.workers.every(({ outcome }) => outcome !== 'working');
  await time.run(isOver, { maxEvents: 50_000, maxMs: 120_000 });
  simulation.close();
  return { simulation, trace };
}

describe('simulated run', () => {
  test('three workers train to the end with the bits of the reference run', async () => {
    const { simulation } = await runUndisturbed(1);
    const { reference, config } = storm;
    assert.equal(simulation.outcome, 'finished');
    const { records } = readMemoryJournal(simulation.journalLines);
    const commits = records.flatMap((record) => (record.kind === 'step-committed' ? [record] : []));
    assert.deepEqual(
      commits.map(({ step, gradDigest }) => [step, gradDigest]),
      reference.steps.map(({ step, gradDigest }) => [step, gradDigest]),
    );
    assert.deepEqual(
      simulation.ledger.flatMap(({ steps }) => steps.map(({ lanes }) => lanes)),
      reference.steps.map(({ lanes }) => lanes),
    );
    for (const worker of simulation.workers) {
      assert.equal(worker.outcome, 'finished');
      assert.equal(await worker.paramDigest(), reference.steps.at(-1)!.paramDigest);
    }
    const saved = simulation.checkpoints.published().at(-1);
    assert.deepEqual(
      [saved?.run.step, saved?.run.paramDigest],
      [config.training.steps, reference.steps.at(-1)!.paramDigest],
    );
  });

  test('the same seed gives the same trace, and another seed gives other times and the same bits', async () => {
    const [first, again, other] = [await runUndisturbed(1), await runUndisturbed(1), await runUndisturbed(2)];
    assert.deepEqual(again.trace, first.trace);
    assert.equal(again.simulation.time.traceDigest, first.simulation.time.traceDigest);
    assert.notEqual(other.simulation.time.traceDigest, first.simulation.time.traceDigest);
    assert.notEqual(other.simulation.time.nowMs, first.simulation.time.nowMs);
    for (const { simulation } of [first, other])
      assert.equal(await simulation.workers[0]!.paramDigest(), storm.reference.steps.at(-1)!.paramDigest);
  });

  test('a schedule of faults is replayed exactly', async () => {
    for (const seed of [3, 14, 15]) {
      const schedule = planSchedule(seed, STORM);
      const [first, again] = [await runSchedule(schedule, storm), await runSchedule(schedule, storm)];
      assert.deepEqual(problemsOf(first), [], describeSchedule(schedule));
      assert.deepEqual(again.injection.happened, first.injection.happened);
      assert.equal(again.simulation.time.traceDigest, first.simulation.time.traceDigest, describeSchedule(schedule));
    }
  });

  test('a flipped bit on the wire ends its generation with FRAME_INVALID, and the run has the bits of the reference run', async () => {
    const codes = new Set<unknown>();
    const onLog: RunScheduleInit['onLog'] = ({ msg, code }) => {
      if (msg === 'generation ended') codes.add(code);
    };
    const faults = [{ at: { afterMs: 150 }, kind: 'corrupt-frame', connection: 0 }] as const;
    const outcome = await runSchedule({ seed: 1, faults }, { ...storm, onLog });
    assert.deepEqual(outcome.injection.happened, faults);
    assert.ok(codes.has('FRAME_INVALID'), [...codes].join(', '));
    assert.deepEqual(problemsOf(outcome), []);
  });

  test('a partition of one worker from all delays the run, and the run has the bits of the reference run', async () => {
    const undisturbed = await runSchedule({ seed: 1, faults: [] }, storm);
    const forMs = 400;
    const faults = [
      { at: { afterMs: 150 }, kind: 'partition', worker: 0, from: 'all', forMs, connections: 'held' },
    ] as const;
    const outcome = await runSchedule({ seed: 1, faults }, storm);
    assert.deepEqual(outcome.injection.happened, faults);
    const delayMs = outcome.simulation.time.nowMs - undisturbed.simulation.time.nowMs;
    assert.ok(delayMs > forMs / 2, `delayed by ${delayMs} ms`);
    assert.deepEqual(problemsOf(outcome), []);
  });

  const mishaps: readonly (readonly [string, NonNullable<ToyEngineInit['mishap']>])[] = [
    ['throws', (call, numBefore) => (call === 'step' && numBefore === 5 ? 'throw' : undefined)],
    [
      'throws in the middle of an update',
      (call, numBefore) => (call === 'apply' && numBefore === 2 ? 'throw' : undefined),
    ],
    ['hangs', (call, numBefore) => (call === 'step' && numBefore === 9 ? 'hang' : undefined)],
  ];
  for (const [what, mishap] of mishaps)
    test(`a run whose worker ${what} ends with the bits of the reference run`, async () => {
      let numMishaps = 0;
      const counted: typeof mishap = (call, numBefore) => {
        const found = mishap(call, numBefore);
        if (found !== undefined) numMishaps += 1;
        return found;
      };
      const outcome = await runSchedule({ seed: 1, faults: [] }, { ...storm, mishap: counted });
      assert.equal(numMishaps, 1);
      assert.deepEqual(problemsOf(outcome), []);
    });
});
