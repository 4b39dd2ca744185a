import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ScriptedWorker, Script } from './testing/scripted-worker.fixture.ts';
import { changing, startRun, STEP_MS, undisturbed, type SmallRun } from './testing/small-run.fixture.ts';

const TWO = { cluster: { minWorkers: 2 } };
const ONE = { cluster: { minWorkers: 1 } };

/** Dies when it would say this. */
const dyingAt = (step: number): NonNullable<Script['edit']> =>
  changing('report', (message, worker) => {
    if (message.kind !== 'report' || message.step < step) return message;
    worker.die();
    return undefined;
  });

/** The rows that were dealt for a step in a generation, by lane. */
function rowsDealt(workers: readonly ScriptedWorker[], generation: number, step: number): Map<number, Uint8Array> {
  const deals = workers.flatMap(({ seen }) =>
    seen.flatMap((message) => (message.kind === 'deal' && message.generation === generation ? [message] : [])),
  );
  const lanes = deals.filter((deal) => deal.step === step).flatMap((deal) => deal.lanes);
  return new Map(lanes.map(({ lane, rows }) => [lane, rows]));
}

function formsSeenBy({ seen }: ScriptedWorker, generation: number) {
  return seen.flatMap((message) => (message.kind === 'form' && message.generation === generation ? [message] : []));
}

const generationsOf = (run: SmallRun) =>
  run.records('generation-formed').map(({ members, firstStep }) => [firstStep, ...members]);

describe('a member that dies', () => {
  test('in the middle of a step: the next generation receives the same rows, and each step is committed once', async () => {
    const { run, workers } = await startRun([{}, {}, {}], ONE);
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    workers[1]!.die();
    assert.equal((await ended).worldSize, 2);
    assert.deepEqual(run.committed, await undisturbed());
    assert.deepEqual(generationsOf(run), [
      [1, 'w0', 'w1', 'w2'],
      [3, 'w0', 'w2'],
    ]);
    for (const step of [3, 4, 5]) {
      const [before, after] = [1, 2].map((generation) => rowsDealt(workers, generation, step));
      assert.ok(after!.size === 4 && before!.size > 1, `step ${step}`); // w1 may have died before it heard of its own
      for (const [lane, rows] of before!) assert.deepEqual(after!.get(lane), rows);
    }
    assert.equal(workers[0]!.digest, workers[2]!.digest);
    const [record] = run.messages('generation ended');
    assert.match(String(record?.['reason']), /rank 1, worker w1 \(pid 1 on h\), was lost in step 3/u);
  });

  test('after a survivor has applied the last step: the step is committed from the report of the survivor', async () => {
    const { run, workers } = await startRun([{}, { edit: dyingAt(3) }], ONE);
    const summary = await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed());
    assert.deepEqual(generationsOf(run), [
      [1, 'w0', 'w1'],
      [4, 'w0'],
    ]);
    assert.equal(rowsDealt(workers, 2, 3).size, 0, 'step 3 is not done again');
    assert.equal(summary.step, 6);
  });

  test('while survivors are a step apart: the member behind copies the state of the one ahead', async () => {
    // All put their lanes of step 3 in; w0 reports it, w1 dies before it does, w2 never gets the sum.
    const script = { loses: (step: number) => step === 3 };
    const { run, workers } = await startRun([{}, { edit: dyingAt(3) }, script], ONE);
    await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed());
    assert.deepEqual(generationsOf(run), [
      [1, 'w0', 'w1', 'w2'],
      [4, 'w0', 'w2'],
    ]);
    const [ahead, behind] = [workers[0]!, workers[2]!].map((worker) => formsSeenBy(worker, 2)[0]!);
    assert.deepEqual([ahead!.state, ahead!.receivers], [{ kind: 'held', step: 3 }, [1]]);
    assert.deepEqual([behind!.state, behind!.receivers], [{ kind: 'peers', ranks: [0] }, []]);
    assert.equal(workers[2]!.digest, workers[0]!.digest);
  });

  test('as the last one: a worker that joins later loads the newest checkpoint, in a new epoch', async () => {
    const { run, workers } = await startRun([{}], { checkpoint: { everySteps: 2 }, ...ONE });
    const ended = run.run();
    await run.logged('step committed', { step: 3 });
    workers[0]!.die();
    await run.logged('generation ended');
    await run.join({ workerId: 'w9' });
    const ending = await ended;
    assert.equal(ending.kind, 'rewind');
    assert.match(ending.reason, /none of 1 ready workers holds the state of the last step/u);
  });

  test('as the last one, with a process known to have ended: the coordinator does not wait for it', async () => {
    const { run, workers } = await startRun([{ pid: 7 }], { checkpoint: { everySteps: 2 }, ...ONE });
    const ended = run.run();
    await run.logged('step committed', { step: 3 });
    workers[0]!.die();
    await run.logged('generation ended');
    const sinceMs = run.clock.monotonicMs();
    run.host.end('w0', 7);
    await run.join({ workerId: 'w9' });
    assert.equal((await ended).kind, 'rewind');
    assert.ok(run.clock.monotonicMs() - sinceMs < 1_000, 'ms of the clock of the run');
  });

  test('by hanging: the worker host kills its process', async () => {
    let hangs = true;
    const silent = changing('report', (message) => (hangs ? undefined : message));
    const { run } = await startRun([{}, { edit: silent }], { ...ONE, checkpoint: {} });
    const ended = run.runToEnd();
    await run.logged('generation ended');
    hangs = false;
    await ended;
    assert.deepEqual(run.host.killed, ['w1']);
    assert.deepEqual(run.committed, await undisturbed());
  });

  test('and comes back as a new process: it joins again and copies the state', async () => {
    const { run, workers } = await startRun([{}, {}], { ...ONE, steps: 12 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    workers[1]!.die();
    await run.logged('generation formed', { generation: 2 });
    const again = await run.join({ workerId: 'w1', pid: 2 });
    await ended;
    assert.deepEqual(run.committed, await undisturbed({ steps: 12 }));
    assert.deepEqual(generationsOf(run).at(-1)?.slice(1), ['w0', 'w1']);
    assert.deepEqual(formsSeenBy(again, 3)[0]?.state, { kind: 'peers', ranks: [0] });
    assert.equal(again.digest, workers[0]!.digest);
  });
});

describe('a worker that joins late', () => {
  test('joins at a step boundary: the dealt steps are finished, no step is aborted, and it copies the state', async () => {
    const { run, workers } = await startRun([{}], { ...ONE, steps: 10 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    const late = await run.join({ workerId: 'w1' });
    await ended;
    assert.deepEqual(run.committed, await undisturbed({ steps: 10 }));
    const [, second] = run.records('generation-formed');
    assert.deepEqual(second?.members, ['w0', 'w1']);
    const openWhenItCame = second.firstStep - 1;
    assert.ok(openWhenItCame > 2 && openWhenItCame <= 2 + run.config.cluster.plansAhead + 1);
    assert.ok(!workers[0]!.seen.some(({ kind }) => kind === 'abort'));
    assert.equal(rowsDealt(workers, 1, second.firstStep).size, 0, 'no more was dealt once it was ready');
    assert.deepEqual(
      run.messages('generation changes').map(({ reason }) => reason),
      ['w1 joins'],
    );
    assert.deepEqual(formsSeenBy(workers[0]!, 2)[0]?.state, { kind: 'held', step: second.firstStep - 1 });
    assert.deepEqual(formsSeenBy(workers[0]!, 2)[0]?.receivers, [1]);
    assert.deepEqual(formsSeenBy(late, 2)[0]?.state, { kind: 'peers', ranks: [0] });
    assert.equal(late.digest, workers[0]!.digest);
  });

  test('waits in reserve while maxWorkers train, and replaces one that dies', async () => {
    const { run, workers } = await startRun([{}, {}], { cluster: { minWorkers: 1, maxWorkers: 2 }, steps: 10 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 1 });
    const reserve = await run.join({ workerId: 'w2' });
    await run.logged('step committed', { step: 4 });
    assert.equal(run.records('generation-formed').length, 1);
    assert.equal(formsSeenBy(reserve, 1).length, 0);
    workers[0]!.die();
    await ended;
    assert.deepEqual(run.records('generation-formed')[1]?.members, ['w1', 'w2']);
    assert.deepEqual(run.committed, await undisturbed({ steps: 10 }));
  });

  test('does not delay the run after the last step was dealt', async () => {
    const { run } = await startRun([{}], { ...ONE, steps: 4 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    await run.join({ workerId: 'w1' });
    await ended;
    assert.equal(run.records('generation-formed').length, 1);
  });

  test('does not train with fewer members than needed: the run waits and logs the reason', async () => {
    const { run, workers } = await startRun([{}, {}], { ...TWO, steps: 10 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    workers[1]!.die();
    await run.logged('generation ended');
    await run.clock.sleep(20_000);
    const status = run.coordinator.status() as { phase: string; waitingFor: string; step: number };
    assert.deepEqual([status.phase, status.step], ['rendezvous', 2]);
    assert.match(status.waitingFor, /1 of 2 workers joined \(w0 on h\): waiting for 1 more/u);
    await run.join({ workerId: 'w5' });
    await ended;
    assert.deepEqual(run.records('generation-formed')[1]?.members, ['w0', 'w5']);
    assert.deepEqual(run.committed, await undisturbed({ steps: 10 }));
  });

  test('never joins: the run ends at the timeout, and its state is saved', async () => {
    const { run, workers } = await startRun([{}, {}], { ...TWO, checkpoint: {} });
    const ended = run.run();
    await run.logged('step committed', { step: 2 });
    workers[1]!.die();
    await assert.rejects(ended, { code: 'RENDEZVOUS_TIMEOUT', message: /after 60 s 1 of 2 workers joined/u });
    assert.deepEqual(
      run.records('checkpoint-published').map(({ step }) => step),
      [run.committed.at(-1)!.step],
    );
    assert.equal(workers[0]!.seen.filter(({ kind }) => kind === 'abort').length, 1, 'a generation is aborted once');
    assert.equal((await workers[0]!.closed).code, 1000);
  });

  test('never joins: a survivor that has dialled again meanwhile saves as well', async () => {
    const { run, workers } = await startRun([{}, {}], { ...TWO, checkpoint: {} });
    const ended = run.run();
    await run.logged('step committed', { step: 2 });
    workers[1]!.die();
    await run.logged('generation ended');
    await run.clock.sleep(1_000);
    await run.rejoin(workers[0]!);
    await assert.rejects(ended, { code: 'RENDEZVOUS_TIMEOUT' });
    assert.deepEqual(
      run.records('checkpoint-published').map(({ step }) => step),
      [run.committed.at(-1)!.step],
    );
  });
});

describe('a member that fails or is late', () => {
  test('an overdue step ends the generation; the late ranks are dropped', async () => {
    const edit = changing('report', (message) =>
      message.kind === 'report' && message.step === 3 ? undefined : message,
    );
    const cluster = { minWorkers: 1, stepTimeoutMs: 1_000, plansAhead: 1 };
    const { run, workers } = await startRun([{}, { edit }], { cluster });
    await run.runToEnd();
    const [record] = run.messages('generation ended');
    assert.equal(record?.['code'], 'COLLECTIVE_TIMEOUT');
    assert.match(String(record['reason']), /step 3 is open .*rank 1/u);
    assert.equal((await workers[1]!.closed).code, 4012);
    assert.deepEqual(run.records('generation-formed')[1]?.members, ['w0']);
    assert.deepEqual(run.committed, await undisturbed());
  });

  test('that reports a failure is dropped at once, and may join again', async () => {
    let numFailures = 0;
    const edit = changing('report', (message, worker) =>
      message.kind === 'report' && message.step === 3 && numFailures++ === 0
        ? worker.fail('TENSOR_LEAK', '3 tensors more than before')
        : message,
    );
    const { run, workers } = await startRun([{}, { edit }], { ...ONE, steps: 8 });
    const ended = run.runToEnd();
    await run.logged('generation ended');
    const [record] = run.messages('generation ended');
    assert.deepEqual([record?.['code'], record?.['step']], ['TENSOR_LEAK', 2]);
    await workers[1]!.closed;
    await run.join({ workerId: 'w1', pid: 2 });
    await ended;
    assert.deepEqual(run.records('generation-formed').at(-1)?.members, ['w0', 'w1']);
    assert.deepEqual(run.committed, await undisturbed({ steps: 8 }));
  });

  test('that fails three times in one step is excluded, and refused when it joins again', async () => {
    const ignores: Script['ignores'] = (message, worker) => {
      if (message.kind !== 'deal' || message.step !== 3) return false;
      worker.fail('TENSOR_LEAK', 'it leaks');
      return true;
    };
    const { run, workers } = await startRun([{}, { ignores }], { cluster: { minWorkers: 2, plansAhead: 1 } });
    const ended = run.runToEnd();
    let bad = workers[1]!;
    for (let attempt = 2; attempt <= 4; attempt++) {
      const { code, reason } = await bad.closed;
      assert.equal(code, attempt < 4 ? 4012 : 4007, reason);
      assert.equal(run.coordinator.isDismissed('w1'), attempt === 4);
      bad = await run.join({ workerId: 'w1', pid: attempt, ignores });
    }
    const { code, reason } = await bad.closed;
    assert.equal(code, 4007);
    assert.match(reason, /w1 has failed 3 times in step 3, last: .*it leaks/u);
    assert.equal(run.messages('worker excluded').length, 1);
    await run.join({ workerId: 'w2' });
    await ended;
    assert.deepEqual(run.records('generation-formed').at(-1)?.members, ['w0', 'w2']);
    assert.deepEqual(run.committed, await undisturbed());
  });

  test('a broken link blames no member: all stay', async () => {
    const once = { said: false };
    const edit = changing('report', (message, worker) => {
      if (message.kind !== 'report' || message.step !== 3 || once.said) return message;
      once.said = true;
      worker.fail('CONNECTION_LOST', 'link to rank 1 is lost');
      return undefined;
    });
    const { run } = await startRun([{ edit }, {}]);
    await run.runToEnd();
    assert.deepEqual(generationsOf(run), [
      [1, 'w0', 'w1'],
      [4, 'w0', 'w1'],
    ]);
    assert.deepEqual(run.committed, await undisturbed());
    assert.deepEqual(run.messages('worker left'), []);
  });
});

describe('a stop', () => {
  test('in the middle of a repair: the survivors save the last step, and nothing is lost', async () => {
    const { run, workers } = await startRun([{}, {}], { ...TWO, checkpoint: {}, steps: 20 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    workers[1]!.die();
    await run.logged('generation ended');
    run.coordinator.requestStop('SIGTERM');
    const { step, checkpoint } = await ended;
    assert.equal(checkpoint, `/run/checkpoints/step-${step}`);
    assert.equal(run.committed.at(-1)!.step, step);
    assert.deepEqual(run.records('generation-formed').at(-1)?.members, ['w0']);
    assert.deepEqual(run.journal.at(-1), { kind: 'run-interrupted', epoch: 1, step, reason: 'SIGTERM' });
    assert.ok(run.clock.monotonicMs() < 20 * STEP_MS, 'nobody is waited for');
  });

  test('without any worker left ends the run at the last committed step', async () => {
    const { run, workers } = await startRun([{}], { checkpoint: {}, steps: 20 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    workers[0]!.die();
    run.coordinator.requestStop('SIGTERM');
    const { step } = await ended;
    assert.equal(step, 2);
    assert.deepEqual(run.journal.at(-1), { kind: 'run-interrupted', epoch: 1, step: 2, reason: 'SIGTERM' });
  });
});
