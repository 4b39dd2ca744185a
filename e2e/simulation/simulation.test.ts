import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { readMemoryJournal } from './memory-journal.ts';
import type { TrainerError } from '../../shared/errors.ts';
import { injectFaults } from './inject-faults.ts';
import { findViolations } from './invariants.ts';
import { computeReference, type ReferenceRun } from './reference-run.ts';
import { ALL_FAULTS, describeSchedule, planSchedule, type Schedule } from './schedule.ts';
import { Simulation } from './simulation.ts';
import type { ToyEngineInit } from './toy-engine.ts';
import { createToyMixture } from './toy-mixture.ts';
import { createToyConfig } from './toy-run.ts';

const STEPS = 6;
const mixture = createToyMixture();
const config = createToyConfig({ steps: STEPS, minWorkers: 3 });
let reference: ReferenceRun;
before(async () => {
  reference = await computeReference(config, mixture);
});

/** A run without faults to its end. */
async function runUndisturbed(seed: number) {
  const simulation = new Simulation({ seed, config, mixture, reference });
  const { time } = simulation;
  const trace: string[] = [];
  if (seed < 10) time.onTrace = (ms, line) => trace.push(`${ms} ${line}`);
  simulation.startCoordinator();
  for (const name of ['w0', 'w1', 'w2']) simulation.startWorker(name);
  const isOver = (): boolean =>
    simulation.outcome !== 'working' && simulation.workers.every(({ outcome }) => outcome !== 'working');
  await time.run(isOver, { maxEvents: 50_000, maxMs: 120_000 });
  simulation.close();
  return { simulation, trace };
}

/** A run with faults, to where its coordinator ends it; what rules it broke. */
async function runDisturbed(schedule: Schedule, mishap?: ToyEngineInit['mishap']) {
  const simulation = new Simulation({ seed: schedule.seed, config, mixture, reference });
  const { time, ledger } = simulation;
  simulation.startCoordinator();
  for (const name of ['w0', 'w1', 'w2']) simulation.startWorker(name, name === 'w1' ? mishap : undefined);
  const injection = injectFaults(simulation, schedule);
  const isOver = (): boolean => simulation.outcome !== 'working' && injection.numPending === 0;
  await time.run(isOver, { maxEvents: 50_000, maxMs: 300_000 });
  simulation.close();
  const finals = [];
  for (const worker of simulation.workers)
    if (worker.outcome === 'finished' && worker.isPrepared)
      finals.push({ workerId: worker.process.name, step: worker.step, paramDigest: await worker.paramDigest() });
  const violations = findViolations(
    {
      records: readMemoryJournal(simulation.journalLines).records,
      sessions: ledger,
      checkpoints: simulation.checkpoints.published().map(({ run }) => run),
      finals,
      ...(simulation.outcome === 'finished' ? { finishedAt: STEPS } : {}),
    },
    reference,
  );
  return { simulation, injection, violations };
}

describe('simulated run', () => {
  test('three workers train to the end with the bits of the reference', async () => {
    const { simulation } = await runUndisturbed(1);
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
      assert.deepEqual([worker.outcome, worker.step], ['finished', STEPS]);
      assert.equal(await worker.paramDigest(), reference.steps.at(-1)!.paramDigest);
    }
    const [saved] = simulation.checkpoints.published();
    assert.deepEqual([saved?.run.step, saved?.run.paramDigest], [STEPS, reference.steps.at(-1)!.paramDigest]);
  });

  test('the same seed gives the same trace, another one other times and the same bits', async () => {
    const [first, again, other] = [await runUndisturbed(1), await runUndisturbed(1), await runUndisturbed(2)];
    assert.deepEqual(again.trace, first.trace);
    assert.equal(again.simulation.time.traceDigest, first.simulation.time.traceDigest);
    assert.notEqual(other.simulation.time.traceDigest, first.simulation.time.traceDigest);
    assert.notEqual(other.simulation.time.nowMs, first.simulation.time.nowMs);
    for (const { simulation } of [first, other])
      assert.equal(await simulation.workers[0]!.paramDigest(), reference.steps.at(-1)!.paramDigest);
  });

  test('a run costs little', async (t) => {
    const startMs = performance.now();
    const numRuns = 20;
    let numEvents = 0;
    for (let seed = 100; seed < 100 + numRuns; seed++)
      numEvents += (await runUndisturbed(seed)).simulation.time.numFired;
    const runMs = (performance.now() - startMs) / numRuns;
    t.diagnostic(`${runMs.toFixed(1)} ms a run of ${Math.round(numEvents / numRuns)} events`);
    assert.ok(numEvents > 0);
  });

  test('whatever goes wrong, no rule is broken, every kind of fault happens, and a schedule replays exactly', async () => {
    const options = {
      numWorkers: 3,
      spanMs: 500,
      spanEvents: 700,
      maxFaults: 3,
      weights: ALL_FAULTS,
      maxPauseMs: 8_000,
    };
    const happened = new Set<string>();
    for (let seed = 0; seed < 40; seed++) {
      const schedule = planSchedule(seed, options);
      const { simulation, injection, violations } = await runDisturbed(schedule);
      assert.deepEqual(violations, [], describeSchedule(schedule));
      for (const fault of injection.happened) happened.add(fault.split(': ')[1]!.split(' ')[0]!);
      if (seed % 10 > 0) continue;
      const again = await runDisturbed(schedule);
      assert.equal(again.simulation.time.traceDigest, simulation.time.traceDigest, describeSchedule(schedule));
    }
    assert.deepEqual([...happened].sort(), Object.keys(ALL_FAULTS).sort());
  });

  test('one flipped bit in the state of one worker is found', async () => {
    const mishap = (call: string, numBefore: number) =>
      call === 'apply' && numBefore === 1 ? ('flip-bit' as const) : undefined;
    const { violations } = await runDisturbed({ seed: 1, faults: [] }, mishap);
    assert.match(violations.join('\n'), /step 3, epoch 1: expected gradient/u);
  });

  const mishaps: readonly (readonly ['nan' | 'throw' | 'hang', string])[] = [
    ['nan', 'GRADIENT_NOT_FINITE'],
    ['throw', 'INTERNAL'],
    ['hang', 'COLLECTIVE_TIMEOUT'],
  ];
  for (const [what, code] of mishaps)
    test(`an engine with a ${what} ends the run with ${code}, and no rule is broken`, async () => {
      const mishap = (call: string, numBefore: number) => (call === 'step' && numBefore === 5 ? what : undefined);
      const { simulation, violations } = await runDisturbed({ seed: 1, faults: [] }, mishap);
      assert.equal((simulation.outcome as TrainerError).code, code);
      assert.deepEqual(violations, []);
    });
});
