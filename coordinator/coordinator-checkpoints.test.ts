/** Checkpoints while generations come and go. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ShardMissing } from './checkpoint/publish.ts';
import { changing, startRun, undisturbed, type SmallRun } from './testing/small-run.fixture.ts';

/** Keeps back the first `saved`; `release` says it. */
function slowWriter() {
  const kept: { say?: () => void } = {};
  const wasAsked: { tell?: () => void } = {};
  const asked = new Promise<void>((resolve) => (wasAsked.tell = resolve));
  const edit = changing('saved', (message, worker) => {
    if (kept.say !== undefined) return message;
    kept.say = () => worker.say(message);
    wasAsked.tell!();
    return undefined;
  });
  return { edit, asked, release: () => kept.say!() };
}

const published = (run: SmallRun) => run.records('checkpoint-published').map(({ step }) => step);

describe('a checkpoint under way', () => {
  test('survives a joining worker: training continues in the new generation, and the checkpoint is published', async () => {
    const { edit, asked, release } = slowWriter();
    const { run } = await startRun([{}, { edit }], { cluster: { minWorkers: 2, plansAhead: 1 }, steps: 8 });
    const ended = run.runToEnd();
    await asked;
    await run.join({ workerId: 'w2' });
    await run.logged('step committed', { generation: 2 });
    assert.deepEqual(published(run), []);
    release();
    await ended;
    assert.deepEqual([published(run)[0], published(run).at(-1)], [2, 8]);
    assert.deepEqual(
      [run.checkpoints.published[0]!.generation, run.checkpoints.published[0]!.workerFiles.length],
      [1, 2],
    );
    assert.deepEqual(run.checkpoints.discarded, []);
    assert.equal(run.records('generation-formed').length, 2);
    assert.deepEqual(run.committed, await undisturbed({ steps: 8 }));
  });

  test('is received while the next generation forms', async () => {
    const { edit, asked, release } = slowWriter();
    const { run } = await startRun([{}, { edit }], { cluster: { minWorkers: 2, plansAhead: 1 }, steps: 8 });
    const ended = run.runToEnd();
    await asked;
    const formsSlowly = changing('formed', (message, worker) => {
      if (run.clock.monotonicMs() > askedMs + 40) return message;
      release();
      void run.clock.sleep(50).then(() => worker.say(message));
      return undefined;
    });
    const askedMs = run.clock.monotonicMs();
    await run.join({ workerId: 'w2', edit: formsSlowly });
    await ended;
    assert.equal(published(run)[0], 2);
    assert.equal(run.records('generation-formed').length, 2);
    assert.deepEqual(run.messages('generation ended'), []);
  });

  for (const [when, msg, fields] of [
    ['while the next generation trains', 'step committed', { generation: 2 }],
    ['while the next generation is formed', 'generation changes', {}],
  ] as const)
    test(`that cannot be written ends the run with its code, also if the coordinator receives it ${when}`, async () => {
      const { edit, asked } = slowWriter();
      const { run, workers } = await startRun([{}, { edit }], { cluster: { plansAhead: 1 }, steps: 8 });
      const ended = run.run();
      await asked;
      await run.join({ workerId: 'w2' });
      await run.logged(msg, fields);
      // The links of the generation that is over say that they have ended: that is no failure to write.
      const ids = { kind: 'failed' as const, epoch: 1, generation: 1 };
      workers[1]!.say({ ...ids, error: { code: 'CONNECTION_LOST', message: 'x' } });
      workers[1]!.say({ ...ids, error: { code: 'DISK_FULL', message: 'x' }, unsavedStep: 2 });
      await assert.rejects(ended, { code: 'DISK_FULL', message: /worker w1 .*x/u });
      assert.deepEqual(run.messages('generation ended'), []);
      assert.deepEqual(published(run), []);
    });

  test('is abandoned when a writer dies: its folder is removed, and the next generation makes it again', async () => {
    const { edit, asked } = slowWriter();
    const { run, workers } = await startRun([{}, { edit }], { cluster: { minWorkers: 1, plansAhead: 1 } });
    const ended = run.runToEnd();
    await asked;
    assert.deepEqual(run.checkpoints.begun.length, 1);
    workers[1]!.die();
    await ended;
    assert.deepEqual(run.checkpoints.discarded, run.checkpoints.begun.slice(0, 1));
    assert.notEqual(
      run.checkpoints.begun[1],
      run.checkpoints.begun[0],
      'another folder: nobody may still write into it',
    );
    assert.equal(run.messages('checkpoint abandoned')[0]?.['step'], 2);
    const [first] = run.checkpoints.published;
    assert.ok(first!.step === 2 || first!.step === 3);
    assert.deepEqual([first!.generation, first!.workerFiles.map(({ workerId }) => workerId)], [2, ['w0']]);
    assert.deepEqual(run.committed, await undisturbed());
  });

  test('is abandoned when a writer leaves between two generations', async () => {
    const { edit, asked } = slowWriter();
    const { run, workers } = await startRun([{}, { edit }], { cluster: { minWorkers: 1, plansAhead: 1 }, steps: 8 });
    const ended = run.runToEnd();
    await asked;
    await run.join({ workerId: 'w2' });
    await run.logged('generation changes');
    workers[1]!.die();
    await ended;
    assert.equal(run.checkpoints.discarded.length, 1);
    assert.equal(published(run).at(-1), 8);
    assert.deepEqual(run.committed, await undisturbed({ steps: 8 }));
    assert.ok(run.clock.monotonicMs() < run.config.cluster.stepTimeoutMs, 'it is not waited for');
  });

  test('ends the generation when it is overdue; the late writers are dropped', async () => {
    const edit = changing('saved', () => undefined);
    const cluster = { minWorkers: 1, stepTimeoutMs: 1_000 };
    const { run, workers } = await startRun([{}, { edit }], { cluster });
    const ended = run.runToEnd();
    assert.equal((await workers[1]!.closed).code, 4012);
    await ended;
    const [record] = run.messages('generation ended');
    assert.equal(record?.['code'], 'WORKER_LOST');
    assert.match(String(record['reason']), /w1 did not write the checkpoint of step 2 within 1000 ms/u);
    assert.deepEqual(run.records('generation-formed').at(-1)?.members, ['w0']);
    assert.equal(published(run).at(-1), 6);
    assert.deepEqual(run.committed, await undisturbed());
  });

  /** Cannot write its shards of the first `numTimes` saves. */
  const unableWriter = (numTimes = Infinity) => {
    let numSaves = 0;
    return changing('saved', (message, worker) =>
      ++numSaves > numTimes ? message : worker.failToSave(message, 'PATH_UNUSABLE', 'cannot write /run (EROFS)'),
    );
  };
  const writersOf = (run: SmallRun) =>
    run.checkpoints.published.map(({ step, workerFiles }) => [step, workerFiles.map(({ workerId }) => workerId)]);

  for (const everySteps of [2, 100])
    test(`every ${everySteps} steps: is saved again by the others if one cannot write; that worker is named and trains on`, async () => {
      const init = { checkpoint: { everySteps }, steps: 8 };
      const { run } = await startRun([{}, { edit: unableWriter() }, {}], { cluster: { plansAhead: 1 }, ...init });
      await run.runToEnd();
      assert.deepEqual(published(run).at(-1), 8);
      for (const [, writers] of writersOf(run)) assert.deepEqual(writers, ['w0', 'w2']);
      const named = run.messages('worker left out of saving');
      assert.deepEqual(
        named.map(({ workerId, host, code }) => [workerId, host, code]),
        [['w1', 'h', 'PATH_UNUSABLE']],
      );
      assert.match(String(named[0]!['reason']), /rank 1, worker w1 .*cannot write \/run \(EROFS\)/u);
      assert.deepEqual(run.messages('generation ended'), []);
      assert.deepEqual(run.checkpoints.discarded, run.checkpoints.begun.slice(0, 1));
      assert.deepEqual(run.committed, await undisturbed(init));
    });

  test('that no worker can write ends the run with the code of the first one', async () => {
    const { run } = await startRun([{ edit: unableWriter() }, { edit: unableWriter() }]);
    await assert.rejects(run.run(), { code: 'PATH_UNUSABLE', message: /rank 0, worker w0 .*EROFS/u });
    assert.equal(run.messages('worker left out of saving').length, 4, 'the survivors were asked once more');
    assert.deepEqual(published(run), []);
  });

  test('of a failed run is saved again by the others if a survivor cannot write, or dies', async () => {
    const dyingWriter = changing('saved', (_, worker) => {
      worker.die();
      return undefined;
    });
    for (const script of [{ edit: unableWriter() }, { edit: dyingWriter }]) {
      const edit = changing('report', (message, worker) =>
        message.kind === 'report' && message.step === 4 ? worker.fail('SHARD_CORRUPT', 'shard 3') : message,
      );
      const init = { checkpoint: {}, cluster: { plansAhead: 1 } };
      const { run } = await startRun([{}, { edit }, script], init);
      await assert.rejects(run.run(), { code: 'SHARD_CORRUPT' });
      assert.deepEqual(published(run), [run.committed.at(-1)!.step]);
      assert.ok(!writersOf(run).flat(2).includes('w2'));
    }
  });

  test('is saved again if the shards of one writer are not in the run folder', async () => {
    const { run } = await startRun([{}, {}]);
    const { checkpoints } = run;
    const publish = checkpoints.publish.bind(checkpoints);
    checkpoints.publish = (written) => {
      const ofOther = written.workerFiles.find(({ workerId }) => workerId === 'w1');
      if (ofOther === undefined) return publish(written);
      return Promise.reject(new ShardMissing('w1', '/run/shard-1', 1, 'no file is there'));
    };
    await run.runToEnd();
    assert.deepEqual(
      run.messages('worker left out of saving').map(({ workerId }) => workerId),
      ['w1'],
    );
    assert.equal(published(run).at(-1), 6);
    assert.deepEqual(run.committed, await undisturbed());
  });

  test('a worker that could not write is asked again once no other worker is left', async () => {
    const { run, workers } = await startRun([{}, { edit: unableWriter(1) }], {
      cluster: { minWorkers: 1, plansAhead: 1 },
      steps: 8,
    });
    const ended = run.runToEnd();
    await run.logged('checkpoint published');
    workers[0]!.die();
    await ended;
    assert.deepEqual(writersOf(run).at(-1), [8, ['w1']]);
  });

  test('is completed after a stop, and the run ends with it', async () => {
    const { edit, asked, release } = slowWriter();
    const { run } = await startRun([{ edit }], { checkpoint: {}, steps: 50 });
    const ended = run.runToEnd();
    await run.logged('step committed', { step: 2 });
    run.coordinator.requestStop('SIGTERM');
    await asked;
    await run.clock.sleep(5_000);
    assert.deepEqual(published(run), []);
    release();
    const { step } = await ended;
    assert.deepEqual(published(run), [step]);
  });

  test('is not published if two writers hold different parameters', async () => {
    const edit = changing('saved', (message) => ({ ...message, paramDigest: '12'.repeat(32) }));
    const { run } = await startRun([{}, { edit }]);
    await assert.rejects(run.run(), { code: 'STATE_DIVERGED', message: /step 2: .*not published/u });
    assert.deepEqual(published(run), []);
  });

  test('is written again if one of three writers holds other parameters; those are replaced', async () => {
    let numSaves = 0;
    const edit = changing('saved', (message) =>
      (numSaves += 1) > 1 ? message : { ...message, paramDigest: '12'.repeat(32) },
    );
    const { run, workers } = await startRun([{}, { edit }, {}]);
    await run.runToEnd();
    const named = run.messages('rank differs').map(({ workerId, step }) => [workerId, step]);
    assert.deepEqual(named, [['w1', 2]]);
    const sources = workers[1]!.seen.flatMap((message) => (message.kind === 'form' ? [message.state.kind] : []));
    assert.deepEqual(sources, ['start', 'peers']);
    assert.equal(published(run).at(-1), 6);
    assert.deepEqual(run.committed, await undisturbed());
  });
});
