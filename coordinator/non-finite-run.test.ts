import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Script } from './testing/scripted-worker.fixture.ts';
import { startRun, undisturbed } from './testing/small-run.fixture.ts';

/** The sum of this step is not finite, so many times. */
function badIn(
  step: number,
  times: number,
  losses: ReturnType<NonNullable<Script['notFinite']>> = [],
): Partial<Script> {
  let left = times;
  return { notFinite: (at) => (at === step && left-- > 0 ? losses : undefined) };
}

const training = (onNonFinite: string) => ({ training: { onNonFinite } });

describe('a gradient that is not finite', () => {
  test('ends the run, and the failure names lane, loss and examples', async () => {
    const { run } = await startRun([badIn(3, 1), badIn(3, 1, [{ lane: 2, task: 1, loss: 'NaN' }])]);
    await assert.rejects(run.run(), {
      code: 'GRADIENT_NOT_FINITE',
      message:
        /^step 3: the gradient of w is not finite; nothing was applied; .* lane .* is 2: loss of b NaN; its examples: /u,
    });
    assert.equal(run.committed.at(-1)?.step, 2);
  });

  test('is computed once more with onNonFinite retry, and the bits are those of an undisturbed run', async () => {
    const { run } = await startRun([badIn(3, 1), badIn(3, 1)], training('retry'));
    await run.runToEnd();
    assert.deepEqual(run.committed, await undisturbed());
    assert.deepEqual(
      run.messages('gradient finite again').map(({ step }) => step),
      [3],
    );
  });

  test('ends the run if it is not finite the second time', async () => {
    const { run } = await startRun([badIn(3, 2), badIn(3, 2)], training('retry'));
    await assert.rejects(run.run(), { code: 'GRADIENT_NOT_FINITE' });
    assert.equal(run.records('generation-formed').length, 2);
  });

  test('is skipped with onNonFinite skip: the state stays, the step counts, and the run continues to its end', async () => {
    const { run, workers } = await startRun([badIn(3, 1), badIn(3, 1)], training('skip'));
    const { step } = await run.runToEnd();
    assert.equal(step, 6);
    assert.deepEqual(
      run.records('step-skipped').map((record) => record.step),
      [3],
    );
    const expected = (await undisturbed()).filter((commit) => commit.step !== 3);
    assert.deepEqual(run.committed, expected);
    const sources = workers[0]!.seen.flatMap((message) => (message.kind === 'form' ? [message.state] : []));
    assert.deepEqual(sources[1], { kind: 'held', step: 2 });
  });

  for (const step of [5, 6])
    test(`is skipped in step ${step}, near the end, and several times in a row`, async () => {
      const bad = (): Partial<Script> => ({ notFinite: (at) => (at >= step ? [] : undefined) });
      const { run } = await startRun([bad(), bad()], training('skip'));
      await run.runToEnd();
      assert.deepEqual(
        run.records('step-skipped').map((record) => record.step),
        [5, 6].filter((at) => at >= step),
      );
      assert.equal(run.records('checkpoint-published').at(-1)?.step, 6);
    });

  test('a state from before a skipped step counts as a state of the run after a restart of the coordinator', async () => {
    const { run, workers } = await startRun([badIn(3, 1)], { ...training('skip'), checkpoint: {} });
    const first = run.run().catch(() => undefined);
    await run.logged('step skipped');
    run.signal.abort();
    await first;
    const { stateStep, step } = run.journalState;
    assert.deepEqual([stateStep, step], [2, 3]);
    assert.equal(workers[0]!.step, 2);
  });

  test('in a skipped step before a failure: the survivor saves its state as that of the skipped step', async () => {
    const { run, workers } = await startRun([badIn(3, 1), badIn(3, 1)], { ...training('skip'), checkpoint: {} });
    const ended = run.run();
    await run.logged('step skipped');
    workers[1]!.die();
    run.host.failure = 'w1 was given up';
    await assert.rejects(ended, { code: 'WORKER_LOST' });
    const [saved] = run.checkpoints.published;
    assert.deepEqual([saved?.step, saved?.paramDigest], [3, workers[0]!.digest]);
    assert.equal(workers[0]!.step, 2);
  });

  test('on half of the ranks has no majority: the step is trained again', async () => {
    const { run } = await startRun([badIn(3, 1), {}]);
    const ending = await run.run();
    assert.equal(run.messages('generation ended')[0]?.['code'], 'GRADIENT_DIVERGED');
    if (ending.kind === 'ended') assert.deepEqual(run.committed, await undisturbed());
  });

  test('on a minority leaves those ranks behind: the step is committed, and they copy the state', async () => {
    const { run, workers } = await startRun([badIn(3, 1), {}, {}]);
    await run.runToEnd();
    assert.deepEqual(
      run.committed.map(({ gradDigest }) => gradDigest),
      (await undisturbed()).map(({ gradDigest }) => gradDigest),
    );
    const sources = workers[0]!.seen.flatMap((message) => (message.kind === 'form' ? [message.state.kind] : []));
    assert.deepEqual(sources, ['start', 'peers']);
  });
});
