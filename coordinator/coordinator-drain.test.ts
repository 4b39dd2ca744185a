/** Workers that are told to leave, and stops: in every order the last holders of the committed state save it before they go. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NO_LOCAL_WORKERS } from './membership/worker-host.ts';
import { RandomStream } from '../shared/random.ts';
import type { ScriptedWorker } from './testing/scripted-worker.fixture.ts';
import { startRun, STEP_MS, undisturbed, type SmallRun } from './testing/small-run.fixture.ts';

const TWO = { cluster: { minWorkers: 1, startWorkers: 2 } };
const THREE = { cluster: { minWorkers: 1, startWorkers: 3 } };

const membersOf = (run: SmallRun) => run.records('generation-formed').map(({ members }) => members.join());
const savedStep = (run: SmallRun): number => run.checkpoints.published.at(-1)?.step ?? 0;
const committedStep = (run: SmallRun): number => run.committed.at(-1)?.step ?? 0;
const outcomeOf = ({ seen }: ScriptedWorker) =>
  seen.flatMap((message) => (message.kind === 'finish' ? [message.outcome] : []));

describe('a worker that drains', () => {
  test('alone leaves at the next step boundary: its dealt steps are committed once, and nothing is saved for it', async () => {
    const { run, workers } = await startRun([{}, {}], { ...TWO, checkpoint: {}, steps: 12 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 3 });
    workers[0]!.drain('SIGTERM');
    await ended;
    assert.deepEqual(membersOf(run), ['w0,w1', 'w1']);
    assert.deepEqual(outcomeOf(workers[0]!), ['interrupted']);
    assert.equal((await workers[0]!.closed).code, 1000);
    assert.deepEqual(run.messages('generation ended'), []);
    assert.match(String(run.messages('generation changes')[0]?.['reason']), /^w0 \(SIGTERM\) leaves$/u);
    assert.deepEqual(
      run.records('checkpoint-published').map(({ step }) => step),
      [12],
    );
    assert.deepEqual(run.committed, await undisturbed({ checkpoint: {}, steps: 12 }));
  });

  test('stays until its shards of the checkpoint under way are written', async () => {
    let isSlow = true;
    const { run, workers } = await startRun(
      [{ edit: (message) => (message.kind === 'saved' && isSlow ? undefined : message) }, {}],
      { ...TWO, checkpoint: { everySteps: 2 }, steps: 12 },
    );
    const ended = run.runToEnd();
    await run.logged('checkpoint started', { step: 2 });
    workers[0]!.drain('SIGTERM');
    await run.clock.sleep(20 * STEP_MS);
    assert.deepEqual(outcomeOf(workers[0]!), []);
    isSlow = false;
    workers[0]!.repeatSaved();
    await ended;
    assert.equal(run.records('checkpoint-published')[0]?.step, 2);
    assert.deepEqual(outcomeOf(workers[0]!), ['interrupted']);
    assert.deepEqual(run.committed, await undisturbed({ steps: 12 }));
  });

  test('as the last holder saves first; a worker that comes later continues from the checkpoint', async () => {
    const { run, workers } = await startRun([{}, {}], { ...TWO, checkpoint: {}, steps: 12 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 3 });
    for (const worker of workers) worker.drain('SIGTERM');
    for (const worker of workers) await worker.closed;
    assert.equal(savedStep(run), committedStep(run));
    assert.deepEqual(workers.map(outcomeOf), [['interrupted'], ['interrupted']]);
    assert.ok(committedStep(run) < 12);
    await run.join({ workerId: 'later' });
    await ended;
    assert.deepEqual(membersOf(run), ['w0,w1', 'later']);
    assert.deepEqual(run.messages('run goes back'), []);
    assert.deepEqual(run.committed, await undisturbed({ checkpoint: {}, steps: 12 }));
  });

  test('saves the state alone when the other holder dies meanwhile, though fewer than minWorkers are left', async () => {
    const { run, workers } = await startRun([{}, {}], { checkpoint: {}, steps: 12 });
    const ended = run.run();
    await run.logged('step committed', { step: 3 });
    workers[0]!.drain('SIGTERM');
    workers[1]!.die();
    await workers[0]!.closed;
    assert.equal(savedStep(run), committedStep(run));
    run.coordinator.requestStop('enough seen');
    assert.equal((await ended).kind, 'ended');
  });

  test('says so again to a coordinator that was started again, which saves the state', async () => {
    const { run, workers } = await startRun([{}], { checkpoint: {}, steps: 12 });
    void run.coordinator.run(run.signal.signal);
    await run.clock.during(run.logged('step committed', { step: 3 }));
    workers[0]!.drain('SIGTERM');
    run.kill(workers);
    await run.clock.during(run.clock.sleep(1));
    await run.open();
    const ended = run.runToEnd();
    run.coordinator.requestStop('SIGTERM'); // before its worker is back
    await run.rejoin(workers[0]!);
    const { step } = await ended;
    assert.ok(step >= 3);
    assert.equal(savedStep(run), step);
  });
});

describe('a stop', () => {
  test('that comes with the last step is too late: the run has finished', async () => {
    const { run, workers } = await startRun([{}], { steps: 4, checkpoint: {} });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 4 });
    run.coordinator.requestStop('SIGINT');
    assert.equal((await ended).savedStep, 4);
    assert.equal(run.journal.at(-1)?.kind, 'run-finished');
    assert.deepEqual(outcomeOf(workers[0]!), ['finished']);
  });

  test('without a holder of the committed state ends the run, and the summary has the step that is saved', async () => {
    const { run, workers } = await startRun([{}], {
      checkpoint: { everySteps: 2 },
      cluster: { plansAhead: 1 },
      steps: 20,
    });
    const ended = run.runToEnd();
    await run.logged('checkpoint published', { step: 2 });
    await run.logged('step committed', { step: 3 });
    workers[0]!.die();
    run.coordinator.requestStop('SIGTERM');
    const { step, savedStep: saved } = await ended;
    assert.deepEqual([step, saved], [3, 2]);
    assert.equal(run.messages('run interrupted')[0]?.['savedStep'], 2);
  });
});

describe('a run that has finished', () => {
  test('is opened again: it ends at once, and a worker that dials is told', async () => {
    const { run } = await startRun([{}], { steps: 4 });
    await run.runToEnd();
    await run.open({ workerHost: NO_LOCAL_WORKERS });
    const before = run.clock.monotonicMs();
    const ended = run.runToEnd();
    const late = await run.join({ workerId: 'late' });
    assert.equal((await ended).step, 4);
    assert.ok(run.clock.monotonicMs() - before <= 5_000);
    assert.equal(run.journal.at(-1)?.kind, 'run-finished');
    assert.deepEqual(outcomeOf(late), ['finished']);
    assert.deepEqual(
      run.committed.map(({ step }) => step),
      [1, 2, 3, 4],
    );
  });
});

describe('signals to all', () => {
  test('in any order, at any moment, with or without the coordinator: the committed step is saved', async () => {
    const straight = await undisturbed({ checkpoint: { everySteps: 3 }, steps: 40 });
    for (let seed = 0; seed < 60; seed++) {
      const random = new RandomStream([seed]);
      const { run, workers } = await startRun([{}, {}, {}], { ...THREE, checkpoint: { everySteps: 3 }, steps: 40 });
      const ended = run.run();
      await run.logged('step committed', { step: 1 + random.nextBelow(20) });
      const acts = [
        ...workers.map((worker) => () => worker.drain('SIGTERM')),
        () => run.coordinator.requestStop('SIGTERM'),
      ];
      // At once, or apart by up to a few steps.
      const apartMs = random.nextBelow(3) * STEP_MS;
      for (let i = acts.length; i > 0; i--) {
        const [act] = acts.splice(random.nextBelow(i), 1);
        act!();
        if (apartMs > 0) await Promise.race([ended, run.clock.sleep(random.nextBelow(apartMs))]);
      }
      assert.equal((await ended).kind, 'ended', `seed ${seed}`);
      assert.equal(savedStep(run), committedStep(run), `seed ${seed}`);
      assert.deepEqual(run.committed, straight.slice(0, run.committed.length), `seed ${seed}`);
      assert.deepEqual(run.messages('generation ended'), [], `seed ${seed}: no step was broken off`);
    }
  });
});
