import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../shared/errors.ts';
import { encodeMessage } from '../shared/protocol/codec.ts';
import { PROTOCOL_VERSION } from '../shared/protocol/messages.ts';
import { VERSION } from '../shared/version.ts';
import type { Script } from './testing/scripted-worker.fixture.ts';
import { changing, startRun, TOKEN, type SmallRunInit } from './testing/small-run.fixture.ts';

describe('coordinator', () => {
  test('deals, commits, saves on schedule and ends; the journal has all of it in order', async () => {
    const { run, workers } = await startRun([{}, {}], { cluster: { plansAhead: 1 } });
    const summary = await run.runToEnd();
    assert.deepEqual(
      [summary.step, summary.stepsTrained, summary.worldSize, summary.loss],
      [6, 6, 2, { first: 1, last: 1 }],
    );
    assert.deepEqual(
      run.committed.map(({ step }) => step),
      [1, 2, 3, 4, 5, 6],
    );
    assert.deepEqual(
      run.records('checkpoint-published').map(({ step, path }) => [step, path]),
      [2, 4, 6].map((step) => [step, `checkpoints/step-${step}`]),
    );
    assert.deepEqual(
      [run.journal[0], run.journal[1], run.journal.at(-1)].map((record) => record?.kind),
      ['run-opened', 'generation-formed', 'run-finished'],
    );
    const lanes = workers.map(({ seen }) =>
      seen.flatMap((message) => (message.kind === 'deal' && message.step === 1 ? message.lanes : [])),
    );
    assert.deepEqual(
      lanes.map((own) => own.map(({ lane }) => lane)),
      [
        [0, 1],
        [2, 3],
      ],
    );
    for (const worker of workers) assert.equal((await worker.closed).code, 1000);
    const digests = new Set([...workers.map(({ digest }) => digest), summary.paramDigest]);
    assert.equal(digests.size, 1, 'what was saved last is what the workers hold');
  });

  test('the rows of a step, and so its gradient, are the same for any number of workers', async () => {
    const runs = await Promise.all([1, 2, 3, 4].map((n) => startRun(Array.from({ length: n }, () => ({})))));
    for (const { run } of runs) await run.runToEnd();
    for (const { run } of runs) assert.deepEqual(run.committed, runs[0]!.run.committed);
  });

  test('steps are dealt at most plansAhead steps ahead of the commits', async () => {
    const silent = { edit: changing('report', () => undefined) };
    const { run, workers } = await startRun([{}, silent], { cluster: { plansAhead: 2 }, checkpoint: {} });
    const dealt = (): number[] =>
      workers[0]!.seen.flatMap((message) => (message.kind === 'deal' ? [message.step] : []));
    const ended = run.run();
    await run.logged('generation formed');
    await run.clock.sleep(2_000);
    assert.deepEqual(dealt(), [1, 2]);
    run.signal.abort();
    await assert.rejects(ended, { code: 'ABORTED' });
  });

  test('a stop finishes the dealt steps, saves, and journals the interruption', async () => {
    const { run } = await startRun([{}], { cluster: { plansAhead: 1 } });
    const ended = run.runToEnd();
    await run.logged('step committed');
    run.coordinator.requestStop('SIGTERM');
    run.coordinator.requestStop('a second reason');
    const { step, checkpoint } = await ended;
    assert.ok(step < 6);
    assert.equal(checkpoint, `/run/checkpoints/step-${step}`);
    assert.deepEqual(run.journal.at(-1), { kind: 'run-interrupted', epoch: 1, step, reason: 'SIGTERM' });
  });

  test('a stop during the rendezvous ends the run, with nothing to save', async () => {
    const { run } = await startRun([], { cluster: { minWorkers: 2 } });
    const ended = run.runToEnd();
    await run.join();
    await run.logged('worker ready');
    run.coordinator.requestStop('SIGTERM');
    assert.equal((await ended).step, 0);
    assert.deepEqual(run.journal.at(-1), { kind: 'run-interrupted', epoch: 1, step: 0, reason: 'SIGTERM' });
    assert.deepEqual(run.checkpoints.begun, []);
  });

  test('logs which workers it waits for, and fails at the timeout', async () => {
    const { run } = await startRun([]);
    await assert.rejects(run.run(), {
      code: 'RENDEZVOUS_TIMEOUT',
      message: /after 60 s 0 of 1 workers joined: waiting for 1 more/u,
    });
    assert.ok(run.messages('waiting').some(({ reason }) => String(reason).includes('waiting for 1 more')));
  });

  test('a worker process that is not restarted before the first step ends the wait', async () => {
    const { run } = await startRun([]);
    run.host.failure = 'worker local-0 ended with status 2';
    await assert.rejects(run.run(), { code: 'WORKER_LOST', message: /local-0 ended with status 2/u });
  });

  test('the status has phase, generation, ranks and the reason of the wait', async () => {
    const { run } = await startRun([{}, {}], { steps: 3 });
    const status = (): Record<string, unknown> => run.coordinator.status() as Record<string, unknown>;
    const ended = run.runToEnd();
    await run.logged('waiting');
    assert.equal(status()['phase'], 'rendezvous');
    assert.match(String(status()['waitingFor']), /waiting for/u);
    await run.logged('step committed', { step: 2 });
    const { phase, generation, epoch, workers, waitingFor } = status();
    assert.deepEqual([phase, generation, epoch, waitingFor], ['training', 1, 1, '']);
    const ranks = (workers as { workerId: string; rank: number }[]).map(({ workerId, rank }) => [workerId, rank]);
    assert.deepEqual(ranks, [
      ['w0', 0],
      ['w1', 1],
    ]);
    await ended;
  });
});

describe('a failure', () => {
  const failures: readonly [string, Partial<Script>, string, RegExp, SmallRunInit?][] = [
    [
      'a worker whose data is damaged',
      { edit: changing('report', (_, worker) => worker.fail('SHARD_CORRUPT', 'shard 3 has another checksum')) },
      'SHARD_CORRUPT',
      /rank 1, worker w1 .*shard 3/u,
    ],
    [
      'a worker whose disk is full',
      { edit: changing('saved', (_, worker) => worker.fail('DISK_FULL', 'no room for shard 1')) },
      'DISK_FULL',
      /rank 1, worker w1 .*no room/u,
    ],
    [
      'ranks whose gradients differ',
      { edit: changing('report', (m) => ({ ...m, gradDigest: 99 })) },
      'GRADIENT_DIVERGED',
      /step 1: no rank can be called right or wrong: .*00000063 on rank 1/u,
    ],
    [
      'a report of a step nobody dealt',
      { edit: changing('report', (m) => ({ ...m, step: 50 })) },
      'MESSAGE_INVALID',
      /step 50, which is not open/u,
    ],
    [
      'reports whose tokens are not those that were dealt',
      { edit: changing('report', (m) => ({ ...m, lanes: [] })) },
      'MESSAGE_INVALID',
      /step 1: no rank reported lane 2/u,
    ],
  ];
  for (const [what, script, code, message, init] of failures)
    test(`${what} ends the run with ${code}, and the journal has it`, async () => {
      const { run } = await startRun([{}, script], init);
      await assert.rejects(run.run(), { code, message });
      const last = run.journal.at(-1);
      assert.ok(last?.kind === 'run-interrupted' && last.reason.startsWith(`${code}: `));
      assert.equal(run.messages('run failed').length, 1);
    });

  test('the survivors first save a state that is newer than the newest checkpoint', async () => {
    const edit: Script['edit'] = (message, worker) => {
      if (message.kind !== 'report' || message.step !== 4) return message;
      worker.fail('SHARD_CORRUPT', 'shard 3');
      return undefined;
    };
    const { run, workers } = await startRun([{}, { edit }], { checkpoint: {}, cluster: { plansAhead: 1 } });
    await assert.rejects(run.run(), { code: 'SHARD_CORRUPT' });
    const [saved] = run.records('checkpoint-published');
    assert.equal(saved?.step, run.committed.at(-1)!.step);
    assert.ok(workers[0]!.seen.some(({ kind }) => kind === 'abort'));
    assert.equal((await workers[0]!.closed).code, 1000);
  });

  test('the signal ends the run at once: nothing is saved', async () => {
    const { run } = await startRun([{}], { checkpoint: {} });
    const ended = run.run();
    await run.logged('step committed');
    run.signal.abort();
    await assert.rejects(ended, { code: 'ABORTED' });
    assert.deepEqual(run.checkpoints.begun, []);
  });
});

describe('a coordinator that was taken over', () => {
  test('ends without another record, and its workers dial the other one', async () => {
    const { run, workers } = await startRun([{}, {}], { checkpoint: {} });
    const ended = run.run();
    await run.logged('step committed');
    run.signal.abort(new TrainerError('RUN_LOCKED', 'lock was taken over'));
    const { length } = run.journal;
    await assert.rejects(ended, { code: 'RUN_LOCKED', message: 'lock was taken over' });
    const after = run.journal.slice(length).map(({ kind }) => kind);
    assert.ok(!after.includes('run-interrupted') && !after.includes('checkpoint-published'), after.join());
    for (const { closed } of workers) assert.equal((await closed).error?.code, 'CONNECTION_LOST');
  });
});

describe('a stranger', () => {
  const join = {
    kind: 'join',
    protocolVersion: PROTOCOL_VERSION,
    version: VERSION,
    workerId: 'x',
    host: 'h',
    pid: 1,
    processId: 'p',
  };
  for (const [what, message, code] of [
    ['another protocol version', { ...join, protocolVersion: 999, dataUrl: 'u' }, 4006],
    ['another exmix', { ...join, version: '0.0.1', dataUrl: 'u' }, 4006],
    ['a first message that is no join', { kind: 'heartbeat', progress: 1, phase: 'waiting', step: 0 }, 4002],
    ['a message that is none', { kind: 'nonsense' }, 4002],
    ['a join that breaks its schema', { ...join, pid: -1, dataUrl: 'u' }, 4002],
    ['a data address with a path', { ...join, dataUrl: 'memory://d:1/admin?delete=all' }, 4002],
    ['a data address with a login', { ...join, dataUrl: 'memory://user:word@d:1' }, 4002],
  ] as const)
    test(`with ${what} is closed with ${code}, and the run continues`, async () => {
      const { run } = await startRun([{}]);
      const stranger = await run.transport.dial(run.url, { token: TOKEN, timeoutMs: 1_000 });
      await stranger.send([encodeMessage(message)]);
      assert.equal((await stranger.closed).code, code);
      assert.equal((await run.runToEnd()).step, 6);
    });

  test('a member that sends an invalid message is closed, and the run continues without it', async () => {
    const { run, workers } = await startRun([{}, {}]);
    const ended = run.runToEnd();
    await run.logged('step committed');
    workers[1]!.say({ kind: 'nonsense' } as never);
    assert.equal((await workers[1]!.closed).code, 4002);
    run.coordinator.requestStop('enough seen');
    await ended;
  });

  for (const [what, script, reason] of [
    ['another mixture', { mixtureHash: 'ef'.repeat(32) }, /worker w1 .*expected mixture cdcd/u],
    [
      'another engine',
      { edit: changing('ready', (m) => ({ ...m, engineFingerprint: 'other' })) },
      /worker w1 .*engine scripted 1, got other/u,
    ],
  ] as const)
    test(`that comes before the first step with ${what} is refused, and the run continues with another worker`, async () => {
      const { run, workers } = await startRun([{}, script]);
      const ended = run.runToEnd();
      const { code } = await workers[1]!.closed;
      assert.equal(code, 4007);
      assert.match(String(run.messages('worker refused')[0]?.['reason']), reason);
      await run.join({ workerId: 'w2' });
      assert.equal((await ended).step, 6);
      assert.deepEqual(run.records('generation-formed')[0]?.members, ['w0', 'w2']);
    });

  test('that is refused, and not replaced, is named at the timeout', async () => {
    const { run } = await startRun([{}, { mixtureHash: 'ef'.repeat(32) }]);
    await assert.rejects(run.run(), { code: 'RENDEZVOUS_TIMEOUT', message: /1 of 2 .*refused worker w1 .*mixture/u });
  });

  for (const [what, script] of [
    ['another mixture', { mixtureHash: 'ef'.repeat(32) }],
    ['another engine', { edit: changing('ready', (m) => ({ ...m, engineFingerprint: 'other' })) }],
  ] as const)
    test(`that joins late with ${what} is refused, and the run continues`, async () => {
      const { run } = await startRun([{}], { steps: 10 });
      const ended = run.runToEnd();
      await run.logged('step committed', { step: 2 });
      await run.join({ workerId: 'late', ...script });
      assert.equal((await ended).step, 10);
    });
});

describe('a worker with bad links', () => {
  test('is left out, and tried beside the run until its links work: no further generation breaks, and it joins', async () => {
    let areBroken = true;
    const error = { code: 'CONNECT_FAILED', message: 'no link to w0' };
    const patient = { stepMs: 1_000, heartbeatMs: 1_000 };
    const edit: Script['edit'] = (message) => {
      if (!areBroken) return message;
      const { kind } = message;
      if (kind === 'links-probed') return { ...message, error };
      if (kind !== 'formed') return message;
      const { epoch, generation } = message;
      return { kind: 'failed', epoch, generation, error, peers: [0] };
    };
    const { run } = await startRun([patient, patient, { ...patient, edit }], {
      cluster: { minWorkers: 2 },
      checkpoint: { everySteps: 100 },
      steps: 120,
      onLog: ({ msg, forMs }) => {
        if (msg === 'worker left out' && forMs === 60_000) areBroken = false;
      },
    });
    const summary = await run.runToEnd();
    assert.deepEqual([summary.step, summary.worldSize], [120, 3]);
    assert.deepEqual(
      run.messages('worker left out').map(({ workerId, forMs }) => [workerId, forMs]),
      [
        ['w2', 30_000],
        ['w2', 60_000],
      ],
    );
    assert.match(String(run.messages('worker left out')[1]!['reason']), /^link trial 1: w2: no link to w0$/u);
    assert.equal(run.messages('generation ended').length, 3, 'those before it was left out the first time');
    assert.deepEqual(
      run.records('generation-formed').map(({ members }) => members.length),
      [3, 3, 3, 2, 3],
    );
    assert.equal(run.messages('worker passed its link trial').length, 1);
    assert.deepEqual(
      run.committed.map(({ step }) => step),
      Array.from({ length: 120 }, (_, i) => i + 1),
    );
  });
});
