/** Validations of whole runs with scripted workers: what disturbs them changes neither their results nor the run. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';
import type { Script } from '../testing/scripted-worker.fixture.ts';
import { changing, startRun, undisturbed, type SmallRun, type SmallRunInit } from '../testing/small-run.fixture.ts';

const INIT: SmallRunInit = { steps: 6, checkpoint: { everySteps: 3 }, evaluation: { everySteps: 4 } };
const STEPS = [4, 6];

/** Batches that were sent to these workers, as `step 4` of each. */
function batchesOf(seen: readonly CoordinatorMessage[]): number[] {
  return seen.flatMap((message) => (message.kind === 'evaluate' ? [message.batch] : []));
}

async function resultsOf(workers: readonly Partial<Script>[]): Promise<SmallRun> {
  const { run } = await startRun(workers, INIT);
  await run.runToEnd();
  return run;
}

describe('validation while a run trains', () => {
  test('it changes no commit, and its results are the same for any number of workers', async () => {
    const alone = await resultsOf([{}]);
    assert.deepEqual(alone.committed, await undisturbed({ steps: 6, checkpoint: { everySteps: 3 } }));
    assert.deepEqual(alone.validations.map(({ step }) => step), STEPS); // prettier-ignore
    for (const count of [2, 3]) {
      const run = await resultsOf(Array.from({ length: count }, (_, i) => ({ batchMs: 5 * i })));
      assert.deepEqual(run.committed, alone.committed);
      assert.deepEqual(run.validations, alone.validations);
    }
  });

  test('the checkpoint is published before, no step is dealt meanwhile, and journal, log and summary have the scores', async () => {
    const { run, workers } = await startRun([{}], INIT);
    const summary = await run.runToEnd();
    const order = run.log.flatMap(({ msg, step }) =>
      ['step committed', 'checkpoint published', 'validation started', 'validation'].includes(msg) && Number(step) >= 4
        ? [`${msg} ${String(step)}`]
        : [],
    );
    assert.deepEqual(order, [
      ...['step committed 4', 'checkpoint published 4', 'validation started 4', 'validation 4'],
      ...['step committed 5', 'step committed 6'],
      ...['checkpoint published 6', 'validation started 6', 'validation 6'],
    ]);
    const kinds = workers[0]!.seen.map(({ kind }) => kind).filter((kind) => kind !== 'heartbeat');
    assert.deepEqual(kinds.slice(kinds.indexOf('evaluate')).includes('deal'), true);
    const lastBatch = kinds.indexOf('deal', kinds.indexOf('evaluate'));
    assert.equal(kinds[lastBatch - 1], 'evaluate');
    const [first, last] = run.records('checkpoint-validated');
    assert.deepEqual([first?.step, last?.step, first?.settings === last?.settings], [4, 6, true]);
    assert.notDeepEqual(first?.tasks['a']?.loss, last?.tasks['a']?.loss);
    assert.equal(summary.validation?.newest?.step, 6);
    assert.equal(summary.validation.newest.tasks['a']?.loss, last?.tasks['a']?.loss);
    assert.equal(summary.validation.best?.step, 4, 'of equal ones the earliest');
  });

  test('a worker that dies costs its batches only: the others finish theirs, and the next generation goes on', async () => {
    const calm = await resultsOf([{}]);
    const { run, workers } = await startRun([{ batchMs: 50 }, { batchMs: 50 }], {
      ...INIT,
      cluster: { minWorkers: 1, startWorkers: 2 },
      onLog: ({ msg, step }) => {
        if (msg === 'validation started' && step === 4) void run.clock.sleep(70).then(() => workers[1]!.die());
      },
    });
    await run.runToEnd();
    assert.deepEqual(run.committed, calm.committed);
    assert.deepEqual(run.validations, calm.validations);
    assert.equal(run.records('generation-formed').length, 2);
    assert.equal(run.messages('validation started').length, 2, 'it was not begun again');
    const own = batchesOf(workers[0]!.seen);
    const lost = batchesOf(workers[1]!.seen);
    const numBatches = Number(run.messages('validation started')[0]!['batches']);
    const ofFirst = own.slice(0, own.length - numBatches);
    assert.equal(new Set(ofFirst).size, ofFirst.length, 'no batch of the survivor was computed twice');
    assert.deepEqual([...new Set([...ofFirst, ...lost])].length, numBatches);
  });

  test('a worker that joins changes the generation and takes batches of the same validation', async () => {
    const calm = await resultsOf([{}]);
    const { run, workers } = await startRun([{ batchMs: 50 }], {
      ...INIT,
      onLog: ({ msg, step }) => {
        if (msg === 'validation started' && step === 4) joined = run.join({}, 1);
      },
    });
    let joined: Promise<unknown> | undefined;
    await run.runToEnd();
    await joined;
    assert.deepEqual(run.committed, calm.committed);
    assert.deepEqual(run.validations, calm.validations);
    assert.equal(run.records('generation-formed').length, 2);
    const numBatches = Number(run.messages('validation started')[0]!['batches']);
    assert.ok(batchesOf(workers[0]!.seen).length < 2 * numBatches);
  });

  test('a run that is to stop abandons the validation at once; everything is saved', async () => {
    const { run } = await startRun([{ batchMs: 1_000_000 }], {
      ...INIT,
      onLog: ({ msg }) => {
        if (msg === 'validation started') run.coordinator.requestStop('SIGTERM');
      },
    });
    const summary = await run.runToEnd();
    assert.deepEqual([summary.step, summary.savedStep], [4, 4]);
    const [abandoned] = run.messages('validation abandoned');
    assert.deepEqual([abandoned?.['step'], abandoned?.['reason'], abandoned?.['batches']], [4, 'SIGTERM', 0]);
    assert.equal(run.records('run-interrupted').length, 1);
    assert.equal(run.validations.length, 0);
  });

  test('a stop in the last validation leaves a finished run', async () => {
    const { run } = await startRun([{ batchMs: 50 }], {
      ...INIT,
      onLog: ({ msg, step }) => {
        if (msg === 'validation started' && step === 6) run.coordinator.requestStop('SIGTERM');
      },
    });
    await run.runToEnd();
    assert.equal(run.records('run-finished').length, 1);
    assert.equal(run.messages('validation abandoned')[0]?.['step'], 6);
  });

  test('a run whose last step is saved has finished although no worker is left for its validation', async () => {
    const { run, workers } = await startRun([{ batchMs: 50 }], {
      ...INIT,
      cluster: { rendezvousTimeoutMs: 2_000 },
      onLog: ({ msg, step }) => {
        if (msg === 'validation started' && step === 6) workers[0]!.die();
      },
    });
    await run.runToEnd();
    assert.equal(run.records('run-finished').length, 1);
    assert.match(String(run.messages('validation abandoned')[0]?.['reason']), /fewer|expected|worker/u);
  });

  test('a coordinator that died in a validation begins it again; a validation that the journal has is not repeated', async () => {
    const calm = await resultsOf([{}]);
    for (const [msg, numStarted] of [
      ['validation started', 3],
      ['validation', 2],
    ] as const) {
      const { run, workers } = await startRun([{ batchMs: 5 }, {}], INIT);
      void run.coordinator.run(run.signal.signal);
      await run.clock.during(run.logged(msg, { step: 4 }));
      run.kill(workers);
      await run.clock.during(run.clock.sleep(1));
      await run.open();
      await Promise.all(workers.map((worker) => run.rejoin(worker)));
      await run.runToEnd();
      assert.deepEqual(run.committed, calm.committed);
      assert.deepEqual(run.validations.slice(-2), calm.validations);
      assert.deepEqual(run.records('checkpoint-validated').map(({ step }) => step), STEPS); // prettier-ignore
      assert.equal(run.messages('validation started').length, numStarted);
    }
  });

  test('a batch that fails three times ends the validation, and training goes on', async () => {
    const failing = changing('evaluated', (message) => {
      const error = { code: 'ENGINE_OUT_OF_MEMORY', message: 'no memory' };
      return 'batch' in message && message.batch === 1 ? { ...message, result: { kind: 'failed', error } } : message;
    });
    const { run } = await startRun([{ edit: failing }, { edit: failing }], INIT);
    await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed({ steps: 6, checkpoint: { everySteps: 3 } }));
    assert.equal(run.messages('batch not evaluated').length, 6);
    for (const { reason } of run.messages('validation abandoned') as { reason?: unknown }[])
      assert.equal(reason, 'batch 1 was given up: ENGINE_OUT_OF_MEMORY: no memory');
    assert.equal(run.records('run-finished').length, 1);
  });

  test('a worker whose result does not fit its batch is dropped, and the others evaluate it', async () => {
    const calm = await resultsOf([{}]);
    const odd = changing('evaluated', (message) => {
      return { ...message, result: { kind: 'score', losses: [], numRight: [] } };
    });
    const { run } = await startRun([{}, { edit: odd }], { ...INIT, cluster: { minWorkers: 1, startWorkers: 2 } });
    await run.runToEnd();
    assert.deepEqual(run.validations, calm.validations);
    assert.equal(run.messages('connection closed')[0]?.['code'], 'MESSAGE_INVALID');
  });

  test('a worker that does not move in its batch is lost after the deadline', async () => {
    const calm = await resultsOf([{}]);
    const stuck = changing('evaluated', () => undefined);
    const { run } = await startRun([{}, { edit: stuck }], {
      ...INIT,
      cluster: { minWorkers: 1, startWorkers: 2, stepTimeoutMs: 3_000 },
    });
    await run.runToEnd();
    assert.deepEqual(run.validations, calm.validations);
    assert.match(
      String(run.messages('generation ended')[0]?.['reason']),
      /w1 \(batch \d+\) did not move within 3000 ms in the validation of step 4/u,
    );
  });

  /** The mean of the scripted workers is always the same: no validation after the first is better. */
  const EARLY: SmallRunInit = {
    ...{ steps: 20, checkpoint: { everySteps: 100 } },
    evaluation: { everySteps: 2, stopWhen: { metric: 'mean', patience: 2 } },
  };

  test('a run ends after the same step when validations are no better, with any workers, and has finished', async () => {
    const whole = await undisturbed({ steps: 20, checkpoint: { everySteps: 100 } });
    for (const workers of [[{}], [{}, { batchMs: 7 }], [{}, { stepMs: 3 }, { batchMs: 50 }]]) {
      const { run } = await startRun(workers, EARLY);
      const summary = await run.runToEnd();
      assert.deepEqual(run.committed, whole.slice(0, 6));
      assert.deepEqual([summary.step, summary.savedStep], [6, 6]);
      assert.deepEqual([summary.stoppedEarly?.step, summary.stoppedEarly?.bestStep], [6, 2]);
      assert.deepEqual(run.records('run-finished').map(({ step }) => step), [6]); // prettier-ignore
      assert.deepEqual(run.messages('run stops early').map(({ step }) => step), [6]); // prettier-ignore
      assert.equal(run.coordinator.isFinished, true);
    }
  });

  test('a coordinator that died before or after the decision ends the run after the same step', async () => {
    const { run: calm } = await startRun([{}], EARLY);
    await calm.runToEnd();
    for (const [msg, step] of [
      ['validation', 4],
      ['validation started', 6],
      ['validation', 6],
    ] as const) {
      const { run, workers } = await startRun([{ batchMs: 5 }, {}], EARLY);
      void run.coordinator.run(run.signal.signal);
      await run.clock.during(run.logged(msg, { step }));
      run.kill(workers);
      await run.clock.during(run.clock.sleep(1));
      await run.open();
      if (!run.coordinator.isFinished) await Promise.all(workers.map((worker) => run.rejoin(worker)));
      const summary = await run.runToEnd();
      assert.equal(run.coordinator.isFinished, true);
      assert.deepEqual([summary.step, summary.stoppedEarly?.bestStep], [6, 2]);
      assert.deepEqual(run.committed, calm.committed);
      assert.deepEqual(run.records('checkpoint-validated').map((record) => record.step), [2, 4, 6]); // prettier-ignore
    }
  });

  test('without a score of the metric, the run trains all its steps', async () => {
    const evaluation = { everySteps: 2, stopWhen: { metric: 'elsewhere', patience: 1 } };
    const { run } = await startRun([{}], { steps: 6, evaluation });
    const summary = await run.runToEnd();
    assert.deepEqual([summary.step, summary.stoppedEarly], [6, undefined]);
  });
});
