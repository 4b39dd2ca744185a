import assert from 'node:assert/strict';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import { systemClock } from '../shared/clock.ts';
import { createLogger, type LogRecord } from '../shared/logger.ts';
import { encodeMessage } from '../shared/protocol/codec.ts';
import type { WorkerMessage } from '../shared/protocol/messages.ts';
import { MemoryTransport } from '../shared/transport/memory-transport.ts';
import { Coordinator } from './coordinator.ts';
import { Journal, replayJournal } from './journal.ts';
import type { JournalRecord } from './journal-records.ts';
import { ScriptedWorker, type Script } from './scripted-worker.ts';

const TOKEN = 'a token of the test';
const MIXTURE_HASH = 'cd'.repeat(32);
const TASKS = ['a', 'b'].map((name, task) => ({
  name,
  kind: 'supervised' as const,
  numExamples: 40,
  inputsLength: (index: number) => 3 + ((index + task) % 5),
  targetsLength: (index: number) => 2 + ((index + task) % 3),
}));

function makeConfig(minWorkers: number, cluster: object, checkpoint: object): unknown {
  return {
    name: 'test',
    model: {},
    featureLengths: { inputs: 16, targets: 8 },
    mixture: { path: '/x.yaml', denoisingRatio: 0, windowDraws: 64 },
    training: { steps: 6, rowsPerStep: 4, numLanes: 4, microbatchRows: 1 },
    schedule: { kind: 'constant', value: 0.01 },
    cluster: { minWorkers, heartbeatIntervalMs: 10, heartbeatTimeoutMs: 5_000, rendezvousTimeoutMs: 5_000, ...cluster },
    checkpoint,
  };
}

/** A coordinator on an in-memory network; `run` starts it with the given workers. */
async function start(
  workers: readonly Partial<Script>[],
  cluster: object = {},
  checkpoint: object = { everySteps: 2 },
) {
  const folder = await mkdtemp(join(tmpdir(), 'exmix-coordinator-'));
  const { journal } = await Journal.open(join(folder, 'journal'));
  await journal.append({ kind: 'run-opened', epoch: 3, configHash: 'c0', seed: 1, mixtureHash: MIXTURE_HASH, step: 0 });
  const transport = new MemoryTransport();
  const records: LogRecord[] = [];
  const waiting = new Map<string, () => void>();
  /** Resolves when the next record with that message is logged. */
  const logged = (msg: string) => new Promise<void>((resolve) => waiting.set(msg, resolve));
  const mixture = {
    folder,
    hash: MIXTURE_HASH,
    tasks: TASKS,
    sizes: TASKS,
    taskNames: ['a', 'b'],
  } as unknown as PreparedMixture;
  const coordinator = new Coordinator({
    config: checkConfig(makeConfig(Math.max(1, workers.length), cluster, checkpoint), 'the test'),
    epoch: 3,
    start: { step: 0, rateChanges: [], notes: [] },
    mixture,
    checkpointsFolder: folder,
    journal,
    ledger: { append: () => Promise.resolve() },
    token: TOKEN,
    transport,
    clock: systemClock,
    log: createLogger({
      onRecord: (record) => {
        records.push(record);
        waiting.get(record.msg)?.();
      },
    }),
    publish: ({ step, finalFolder, paramDigest }) =>
      Promise.resolve({ path: finalFolder, step, bytes: 1, paramDigest }),
  });
  const url = await coordinator.listen();
  const join_ = (script: Partial<Script>, index: number) =>
    ScriptedWorker.join(transport, url, TOKEN, {
      workerId: `w${index}`,
      tasks: TASKS,
      mixtureHash: MIXTURE_HASH,
      ...script,
    });
  const joined = await Promise.all(workers.map(join_));
  const readJournal = async () => {
    await journal.close();
    const found: JournalRecord[] = [];
    await replayJournal(journal.path, { onRecord: (record) => found.push(record) });
    return found;
  };
  return {
    coordinator,
    transport,
    url,
    workers: joined,
    records,
    logged,
    readJournal,
    run: () => coordinator.run(new AbortController().signal),
  };
}

/** Sends every message but a changed version of the first one of that kind. */
function changing(
  kind: WorkerMessage['kind'],
  change: (message: WorkerMessage) => object | undefined,
): NonNullable<Script['edit']> {
  return (message) => (message.kind === kind ? change(message) : message);
}

const messages = (records: readonly LogRecord[]) => records.map(({ msg }) => msg);

describe('coordinator', () => {
  test('deals, commits, saves on schedule and ends; the journal tells all of it in order', async () => {
    const { run, records, readJournal, workers } = await start([{}, {}]);
    const summary = await run();
    assert.deepEqual(
      [summary.step, summary.stepsTrained, summary.worldSize, summary.loss],
      [6, 6, 2, { first: 1, last: 1 }],
    );
    const journal = await readJournal();
    const kinds = journal.map((record) =>
      record.kind === 'checkpoint-published'
        ? `saved ${record.step}`
        : record.kind === 'step-committed'
          ? record.step
          : record.kind,
    );
    assert.deepEqual(
      kinds.filter((kind) => typeof kind === 'number'),
      [1, 2, 3, 4, 5, 6],
    );
    assert.equal(kinds.at(-1), 'run-finished');
    assert.equal(kinds.at(-2), 'saved 6');
    assert.ok(messages(records).includes('generation formed'));
    const dealt = workers.flatMap(({ seen }) =>
      seen.flatMap((message) =>
        message.kind === 'deal' && message.step === 1 ? message.lanes.map(({ lane }) => lane) : [],
      ),
    );
    assert.deepEqual(dealt, [0, 1, 2, 3]);
  });

  test('steps are dealt a few ahead of the commits, and no more', async () => {
    const edit = changing('report', () => undefined);
    const { run, workers } = await start([{ edit }, {}], { plansAhead: 2, stepTimeoutMs: 100 }, {});
    await assert.rejects(run(), { code: 'COLLECTIVE_TIMEOUT' });
    const steps = workers[1]!.seen.flatMap((message) => (message.kind === 'deal' ? [message.step] : []));
    assert.deepEqual(steps, [1, 2]);
  });

  test('a stop finishes what is dealt, saves it, and journals the interruption', async () => {
    const { run, coordinator, logged, readJournal } = await start([{}], { plansAhead: 1 });
    const ended = run();
    await logged('step committed');
    coordinator.requestStop('SIGTERM');
    const { step, checkpoint } = await ended;
    assert.ok(step < 6);
    assert.match(checkpoint ?? '', new RegExp(`step-${step}$`, 'u'));
    assert.deepEqual((await readJournal()).at(-1), { kind: 'run-interrupted', epoch: 3, step, reason: 'SIGTERM' });
  });

  test('says whom it waits for, and gives up when the time is over', async () => {
    const { run, records } = await start([], { rendezvousTimeoutMs: 50 });
    await assert.rejects(run(), { code: 'RENDEZVOUS_TIMEOUT', message: /0 of 1 workers joined: waiting for 1 more/u });
    assert.ok(records.some(({ msg, reason }) => msg === 'waiting' && String(reason).includes('waiting for 1 more')));
  });

  const failures: readonly [string, Partial<Script>, string, RegExp, object?][] = [
    [
      'a worker of another mixture',
      { mixtureHash: 'ef'.repeat(32) },
      'MIXTURE_MISMATCH',
      /worker w1 .*expected mixture cdcd/u,
    ],
    [
      'a worker with another engine',
      { edit: changing('ready', (m) => ({ ...m, engineFingerprint: 'other' })) },
      'STATE_DIVERGED',
      /worker w1 .*engine scripted 1, got other/u,
    ],
    [
      'a worker with other parameters',
      { edit: changing('ready', (m) => ({ ...m, paramDigest: '12'.repeat(32) })) },
      'STATE_DIVERGED',
      /worker w1 .*parameters abab/u,
    ],
    [
      'ranks whose gradients differ',
      { edit: changing('report', (m) => ({ ...m, gradDigest: 99 })) },
      'GRADIENT_DIVERGED',
      /rank 0 .*rank 1|rank 1 .*rank 0/u,
    ],
    [
      'ranks that save different parameters',
      { edit: changing('saved', (m) => ({ ...m, paramDigest: '12'.repeat(32) })) },
      'STATE_DIVERGED',
      /not published/u,
    ],
    [
      'a report of another generation',
      { edit: changing('report', (m) => ({ ...m, generation: 7 })) },
      'MESSAGE_INVALID',
      /another epoch or generation/u,
    ],
    [
      'a report of a step nobody dealt',
      { edit: changing('report', (m) => ({ ...m, step: 50 })) },
      'MESSAGE_INVALID',
      /step 50, which is not open/u,
    ],
    [
      'a worker that never saves what it was asked for',
      { edit: changing('saved', () => undefined) },
      'WORKER_LOST',
      /w1 did not write the checkpoint of step 2 within 80 ms/u,
      { stepTimeoutMs: 80 },
    ],
    [
      'a worker that cannot compute',
      { edit: changing('report', () => ({ kind: 'failed', error: { code: 'GRADIENT_NOT_FINITE', message: 'NaN' } })) },
      'GRADIENT_NOT_FINITE',
      /rank 1.*NaN/u,
    ],
    [
      'a worker that falls silent',
      { edit: (m) => (m.kind === 'report' || m.kind === 'heartbeat' ? undefined : m) },
      'WORKER_LOST',
      /rank 1, worker w1 .*silent/u,
      { heartbeatTimeoutMs: 100 },
    ],
    [
      'a step that nobody finishes in time',
      { edit: changing('report', () => undefined) },
      'COLLECTIVE_TIMEOUT',
      /step 1 .*rank 1/u,
      { stepTimeoutMs: 50 },
    ],
  ];
  for (const [what, script, code, message, cluster] of failures) {
    test(`${what} ends the run with ${code}`, async () => {
      const { run } = await start([{}, script], cluster, what.includes('save') ? { everySteps: 2 } : {});
      await assert.rejects(run(), { code, message });
    });
  }

  test('a worker that dies ends the run; the survivors save what they hold, and it is journalled', async () => {
    const { run, workers, logged, readJournal } = await start([{}, {}], { plansAhead: 1 }, { everySteps: 5 });
    const ended = run();
    await logged('step committed');
    workers[1]!.die();
    await assert.rejects(ended, { code: 'WORKER_LOST', message: /rank 1, worker w1 \(pid 1 on h\)/u });
    const journal = await readJournal();
    const committed = journal.findLast((record) => record.kind === 'step-committed');
    const saved = journal.findLast((record) => record.kind === 'checkpoint-published');
    assert.ok(committed !== undefined && saved !== undefined);
    assert.equal(saved.step, committed.step);
    assert.ok(workers[0]!.seen.some(({ kind }) => kind === 'abort'));
    assert.equal((await workers[0]!.closed).code, 1000);
  });

  test('a worker process that fails before the first step ends the wait', async () => {
    const { run, coordinator } = await start([], {});
    coordinator.workerFailed('worker local-0 ended with status 2');
    await assert.rejects(run(), { code: 'WORKER_LOST', message: /local-0 ended with status 2/u });
  });

  for (const [what, message, code] of [
    [
      'another protocol version',
      { kind: 'join', protocolVersion: 999, version: '0', workerId: 'x', host: 'h', pid: 1, dataUrl: 'u' },
      4006,
    ],
    ['a first message that is no join', { kind: 'heartbeat', progress: 1, phase: 'waiting', step: 0 }, 4002],
    ['a message that is none', { kind: 'nonsense' }, 4002],
    [
      'the name of a worker that is here',
      { kind: 'join', protocolVersion: 1, version: '0', workerId: 'w0', host: 'h', pid: 1, dataUrl: 'u' },
      4007,
    ],
  ] as const) {
    test(`a peer with ${what} is closed with ${code}, and the run goes on`, async () => {
      const { run, transport, url } = await start([{}]);
      const stranger = await transport.dial(url, { token: TOKEN, timeoutMs: 1_000 });
      await stranger.send([encodeMessage(message)]);
      assert.equal((await stranger.closed).code, code);
      assert.equal((await run()).step, 6);
    });
  }

  test('a worker that comes when the run has its workers is turned away', async () => {
    const { run, logged, transport, url } = await start([{}], {}, {});
    const ended = run();
    await logged('step committed');
    const late = await ScriptedWorker.join(transport, url, TOKEN, {
      workerId: 'late',
      tasks: TASKS,
      mixtureHash: MIXTURE_HASH,
    });
    assert.equal((await late.closed).code, 4007);
    assert.equal((await ended).step, 6);
  });
});
