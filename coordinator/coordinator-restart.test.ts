/** Coordinators that were killed, and the ones that come after them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Script, ScriptedWorker } from './testing/scripted-worker.fixture.ts';
import { changing, startRun, undisturbed, type SmallRun, type SmallRunInit } from './testing/small-run.fixture.ts';

/** A run whose coordinator is killed at its first record of that kind and step. */
async function killedAt(
  workers: readonly Partial<Script>[],
  msg: string,
  step: number,
  init: SmallRunInit = {},
): Promise<{ run: SmallRun; workers: ScriptedWorker[] }> {
  const started = await startRun(workers, init);
  const { run } = started;
  void run.coordinator.run(run.signal.signal);
  await run.clock.during(run.logged(msg, { step }));
  run.kill(started.workers);
  await run.clock.during(run.clock.sleep(1));
  return started;
}

const lastForm = ({ seen }: ScriptedWorker) => seen.findLast((message) => message.kind === 'form');
const rejoinAll = (run: SmallRun, workers: readonly ScriptedWorker[]) =>
  Promise.all(workers.map((worker) => run.rejoin(worker)));

describe('a coordinator that was killed', () => {
  test('is followed by one that continues from the state of the workers, and repeats no step', async () => {
    const { run, workers } = await killedAt([{}, {}], 'step committed', 4, { checkpoint: {} });
    const { step } = run.journalState;
    await run.open();
    await rejoinAll(run, workers);
    const summary = await run.runToEnd();
    assert.deepEqual([summary.step, summary.stepsTrained], [6, 6 - step]);
    assert.deepEqual(run.committed, await undisturbed());
    const opened = run.records('run-opened')[1]!;
    assert.deepEqual([opened.epoch, opened.goesOn, opened.fromCheckpoint], [2, true, undefined]);
    assert.deepEqual(
      workers.map((worker) => lastForm(worker)?.state.kind),
      ['held', 'held'],
    );
    assert.equal(lastForm(workers[0]!)?.proveState, false);
  });

  for (const [what, edit] of [
    ['by both', undefined],
    [
      'by one alone, before it died',
      changing('report', (message) => (message.kind === 'report' && message.step > 2 ? undefined : message)),
    ],
  ] as const)
    test(`did not receive a step that was reported ${what}: the step is committed from the report`, async () => {
      // The first coordinator hears nothing of step 3 from w1, so it is open when it dies.
      let isDeaf = true;
      const unheard: Script['edit'] = (message, worker) =>
        isDeaf && message.kind === 'report' && message.step > 2 ? undefined : (edit?.(message, worker) ?? message);
      const { run, workers } = await startRun([{ edit: unheard }, { edit: edit ?? unheard }], {
        checkpoint: {},
        cluster: { plansAhead: 1 },
      });
      void run.coordinator.run(run.signal.signal);
      await run.clock.during(run.logged('step committed', { step: 2 }));
      await run.clock.during(run.clock.sleep(100));
      assert.deepEqual([workers.map(({ step }) => step), run.journalState.step], [[3, 3], 2]);
      run.kill(workers);
      isDeaf = false;
      await run.open();
      await rejoinAll(run, edit === undefined ? workers : workers.slice(0, 1));
      if (edit !== undefined) await run.join({ workerId: 'w7' });
      await run.runToEnd();
      assert.deepEqual(run.committed, await undisturbed());
      assert.deepEqual(run.records('step-committed')[2]?.epoch, 2);
      assert.equal(run.records('generation-formed')[1]?.firstStep, 4, 'step 3 is not done again');
      assert.equal(workers[0]!.seen.filter((message) => message.kind === 'deal' && message.step === 3).length, 1);
    });

  test('is followed by one that waits briefly for the last members, and continues without those that do not return', async () => {
    const { run, workers } = await killedAt([{}, {}, {}], 'step committed', 3, {
      cluster: { minWorkers: 1 },
      checkpoint: {},
    });
    const killedMs = run.clock.monotonicMs();
    await run.open();
    await run.rejoin(workers[1]!);
    await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed());
    assert.deepEqual(run.records('generation-formed')[1]?.members, ['w1']);
    assert.ok(run.messages('waiting').some(({ reason }) => /waiting for w0 and w2 to come back/u.test(String(reason))));
    assert.ok(run.clock.monotonicMs() - killedMs > 5_000);
  });

  test('is followed by one that finds too few workers: at the timeout those that hold the state save it', async () => {
    const { run, workers } = await killedAt([{}, {}], 'step committed', 3, { checkpoint: {} });
    await run.open();
    await run.rejoin(workers[1]!);
    await assert.rejects(run.run(), { code: 'RENDEZVOUS_TIMEOUT', message: /after 60 s 1 of 2 workers joined/u });
    assert.deepEqual(
      run.records('checkpoint-published').map(({ step }) => step),
      [workers[1]!.step],
    );
    assert.equal(run.journalState.step, workers[1]!.step);
    assert.match(String(run.messages('survivors asked to save')[0]?.['reason']), /^step \d+ was saved by w1$/u);
    assert.equal((await workers[1]!.closed).code, 1000);
  });

  test('is followed by one that keeps the ranks, in any order of joins', async () => {
    const { run, workers } = await killedAt([{ workerId: 'z' }, { workerId: 'a' }], 'step committed', 3, {
      checkpoint: {},
    });
    assert.deepEqual(run.records('generation-formed')[0]?.members, ['a', 'z']);
    await run.open();
    await run.join({ workerId: '0' });
    await rejoinAll(run, workers);
    await run.runToEnd();
    assert.deepEqual(run.records('generation-formed')[1]?.members, ['a', 'z', '0']);
  });

  test('dies with all workers: no worker holds the state, and the run goes back to its newest checkpoint', async () => {
    const { run } = await killedAt([{}, {}], 'step committed', 3, { cluster: { plansAhead: 1 } });
    await run.open();
    await Promise.all([0, 1].map((i) => run.join({ workerId: `w${i}`, pid: 9 }, i)));
    const ending = await run.run();
    assert.equal(ending.kind, 'rewind');
    assert.match(ending.reason, /none of 2 ready workers holds the state of the last step/u);
    await run.open({ resumeAt: { kind: 'newest-checkpoint' } });
    const workers = await Promise.all([0, 1].map((i) => run.join({}, i)));
    await run.runToEnd();
    const opened = run.records('run-opened')[2]!;
    assert.deepEqual([opened.epoch, opened.step, opened.goesOn], [3, 2, undefined]);
    const done = run.records('step-committed').filter(({ epoch }) => epoch === 3);
    assert.deepEqual(
      done.map(({ step, gradDigest }) => [step, gradDigest]),
      (await undisturbed()).slice(2).map(({ step, gradDigest }) => [step, gradDigest]),
    );
    assert.deepEqual(lastForm(workers[0]!)?.state, { kind: 'start', checkpoint: '/run/checkpoints/step-2' });
    assert.equal(lastForm(workers[0]!)?.proveState, true);
  });

  test('dies with the workers that were furthest: the run goes back to a step that a worker holds', async () => {
    // w1 dies in step 4, which is committed from the report of w0; w2 never gets its sum.
    const dies = changing('report', (message, worker) => {
      if (message.kind !== 'report' || message.step < 4) return message;
      worker.die();
      return undefined;
    });
    let hasLost = false;
    const script = { loses: (step: number) => step === 4 && !hasLost && (hasLost = true) };
    const cluster = { minWorkers: 1 };
    const { run, workers } = await killedAt([{}, { edit: dies }, script], 'step committed', 4, {
      cluster,
      checkpoint: {},
    });
    const behind = workers[2]!;
    assert.deepEqual([run.journalState.step, behind.step], [4, 3]);
    await run.open();
    await run.rejoin(behind);
    const ending = await run.run();
    assert.ok(ending.kind === 'rewind');
    assert.deepEqual(ending.resumeAt, { kind: 'held-step', step: 3 });
    assert.equal((await behind.closed).code, 4009, 'it is to dial again');
    await run.open({ resumeAt: ending.resumeAt });
    await run.rejoin(behind);
    await run.runToEnd();
    const opened = run.records('run-opened')[2]!;
    assert.deepEqual([opened.step, opened.goesOn], [3, true]);
    const again = run.committed.slice(4);
    assert.deepEqual(again, (await undisturbed()).slice(3));
    assert.deepEqual(
      behind.seen.flatMap((m) => (m.kind === 'form' ? [m.state.kind] : [])),
      ['start', 'held'],
    );
  });

  test('died before its generation was formed: the state of the epoch before still counts', async () => {
    const { run, workers } = await killedAt([{}, {}], 'step committed', 3, { checkpoint: {} });
    await run.open();
    void run.coordinator.run(run.signal.signal);
    await run.rejoin(workers[0]!);
    await run.clock.during(run.logged('worker ready'));
    run.kill(workers);
    await run.open();
    await rejoinAll(run, workers);
    await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed());
    assert.deepEqual(
      run.records('run-opened').map(({ goesOn }) => goesOn),
      [undefined, true, true],
    );
  });

  for (const numDeaths of [1, 2])
    test(`died ${numDeaths} times after it journalled a generation and before it sent it: the state still counts`, async () => {
      const watch: { onLog?: () => void } = {};
      const init = { checkpoint: {}, onLog: () => watch.onLog?.() };
      const { run, workers } = await killedAt([{}, {}], 'step committed', 3, init);
      for (let numFormed = 2; numFormed < 2 + numDeaths; numFormed++) {
        const formed = new Promise<void>((resolve) => {
          watch.onLog = () => {
            if (run.records('generation-formed').length < numFormed) return;
            run.kill(workers);
            resolve();
          };
        });
        await run.open();
        void run.coordinator.run(run.signal.signal);
        await rejoinAll(run, workers);
        await run.clock.during(formed);
      }
      delete watch.onLog;
      await run.open();
      await rejoinAll(run, workers);
      await run.runToEnd();
      assert.deepEqual(run.committed, await undisturbed());
      assert.equal(run.journalState.heldSince, 1);
    });
});
