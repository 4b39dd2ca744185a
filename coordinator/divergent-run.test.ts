import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Script } from './testing/scripted-worker.fixture.ts';
import { startRun, undisturbed } from './testing/small-run.fixture.ts';

/** Reports another gradient, in this step, so many times. */
function wrongIn(step: number, times: number): Partial<Script> {
  let left = times;
  const edit: Script['edit'] = (message) => {
    if (message.kind !== 'report' || message.step !== step || left === 0) return message;
    left -= 1;
    return { ...message, gradDigest: 99 };
  };
  return { edit };
}

describe('a run whose ranks differ', () => {
  test('continues with the state of the majority; the other ranks copy it', async () => {
    const { run, workers } = await startRun([{}, wrongIn(3, 1), {}]);
    await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed());
    const named = run.messages('rank differs').map(({ workerId, step }) => [workerId, step]);
    assert.deepEqual(named, [['w1', 3]]);
    const sources = workers[1]!.seen.flatMap((message) => (message.kind === 'form' ? [message.state.kind] : []));
    assert.deepEqual(sources, ['start', 'peers']);
  });

  test('distrusts the same ranks after a restart of the coordinator', async () => {
    const { run, workers } = await startRun([{}, wrongIn(3, 1), {}], { checkpoint: {} });
    void run.coordinator.run(run.signal.signal);
    await run.clock.during(run.logged('rank differs'));
    await run.clock.during(run.clock.sleep(0));
    run.kill(workers);
    await run.clock.during(run.clock.sleep(1));
    assert.deepEqual([...run.journalState.distrusted.keys()], ['w1']);
    await run.open();
    await Promise.all(workers.map((worker) => run.rejoin(worker)));
    await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed());
    const forms = workers.map(({ seen }) => seen.findLast((message) => message.kind === 'form')?.state.kind);
    assert.deepEqual(forms, ['held', 'peers', 'held']);
    assert.equal(run.journalState.distrusted.size, 0);
  });

  test('excludes a rank that differs three times in the same step', async () => {
    let numReports = 0;
    const edit: Script['edit'] = (message) => {
      // Its parameters never are those of the others: each generation ends when it is formed.
      if (message.kind === 'formed' && message.paramDigest !== undefined) {
        numReports += 1;
        return { ...message, paramDigest: 'ff'.repeat(32) };
      }
      return message;
    };
    const { run } = await startRun([{}, { edit }, {}], { cluster: { minWorkers: 2 } });
    await run.runToEnd();
    assert.equal(numReports, 3);
    assert.equal(run.messages('worker excluded').length, 1);
    assert.deepEqual(run.committed, await undisturbed());
  });

  test('goes back without a majority, and trains the step again', async () => {
    const { run, workers } = await startRun([{}, wrongIn(3, 1)], { checkpoint: { everySteps: 2 } });
    const ending = await run.run();
    // Step 2 is saved or not when step 3 differs: then the checkpoint is loaded in the same epoch, else in the next one.
    if (ending.kind === 'rewind') {
      assert.deepEqual(ending.resumeAt, { kind: 'newest-checkpoint' });
      await run.open({ resumeAt: { kind: 'newest-checkpoint' } });
      await Promise.all(workers.map((worker) => run.rejoin(worker)));
      await run.runToEnd();
    }
    const kept = new Map(run.committed.map((commit) => [commit.step, commit]));
    assert.deepEqual(
      [...kept.values()].sort((a, b) => a.step - b.step),
      await undisturbed(),
    );
  });

  test('proves the parameters every proveEverySteps steps', async () => {
    const { run, workers } = await startRun([{}, {}], { training: { proveEverySteps: 2 } });
    await run.runToEnd();
    const proven = workers[0]!.seen.flatMap((message) =>
      message.kind === 'deal' && message.proveState ? [message.step] : [],
    );
    assert.deepEqual(proven, [2, 4, 6]);
  });

  test('finds other parameters at a proof: the rank is named and copies the state', async () => {
    let isSound = false;
    const edit: Script['edit'] = (message) => {
      if (message.kind === 'formed') isSound = message.generation > 1;
      if (message.kind !== 'report' || message.paramDigest === undefined || isSound) return message;
      return { ...message, paramDigest: 'ff'.repeat(32) };
    };
    const { run, workers } = await startRun([{}, { edit }, {}], { training: { proveEverySteps: 2 } });
    await run.runToEnd();
    const named = run.messages('rank differs').map(({ workerId, step }) => [workerId, step]);
    assert.deepEqual(named, [['w1', 2]]);
    const sources = workers[1]!.seen.flatMap((message) => (message.kind === 'form' ? [message.state.kind] : []));
    assert.deepEqual(sources, ['start', 'peers']);
    assert.deepEqual(run.committed, await undisturbed());
  });

  test('ends when a repeated step has another gradient than in the journal', async () => {
    const dies: Script['edit'] = (message, worker) => {
      if (message.kind !== 'report' || message.step !== 3) return message;
      worker.die();
      return undefined;
    };
    const { run } = await startRun([{ edit: dies }], { checkpoint: {} });
    const ending = run.run();
    await run.logged('worker left');
    const edit: Script['edit'] = (message) => (message.kind === 'report' ? { ...message, gradDigest: 5 } : message);
    const other = await run.join({ edit }, 1);
    assert.equal((await ending).kind, 'rewind');
    await run.open({ resumeAt: { kind: 'newest-checkpoint' } });
    await run.rejoin(other);
    await assert.rejects(run.run(), {
      code: 'GRADIENT_DIVERGED',
      message: /step 1 is trained again: expected the gradient in the journal, [0-9a-f]{8}, found 00000005/u,
    });
  });
});
