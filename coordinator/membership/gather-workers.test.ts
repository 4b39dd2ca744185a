import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gatherWorkers, type CommittedState, type LastMembers } from './gather-workers.ts';
import { ManualClock, rest } from '../../shared/manual-clock.fixture.ts';
import { readyMessage, ScriptedRoster, type ScriptedHandle } from '../testing/scripted-handle.fixture.ts';
import type { RunConfig } from '../../shared/config/schema.ts';

type Changes = Partial<CommittedState & LastMembers>;

/** A rendezvous in progress; by default of a new run. */
function start(cluster: Partial<RunConfig['cluster']> = {}, changes: Changes = {}) {
  const { ids, mustReturn = false, hasEnded = () => false, isHolder = () => true, needsHolder = false } = changes;
  const clock = new ManualClock();
  const room = new ScriptedRoster(clock);
  const reasons: string[] = [];
  const stop = new AbortController();
  const asked: { stopReason?: string; workerFailure?: string } = {};
  /** Begins; workers that are there already have joined before. */
  const gather = () => {
    const gathering = gatherWorkers(
      {
        config: { ...room.config, cluster: { ...room.config.cluster, minWorkers: 2, ...cluster } },
        membership: { server: room.server, roster: room.roster },
        last: ids === undefined ? undefined : { ids, mustReturn, hasEnded },
        state: { isHolder, needsHolder },
        workerHost: {
          get failure() {
            return asked.workerFailure;
          },
        },
        phase: {
          waitFor: (reason) => void reasons.push(reason),
          get stopReason() {
            return asked.stopReason;
          },
        },
        clock,
      },
      stop.signal,
    );
    gathering.catch(() => undefined);
    return gathering;
  };
  const idsOf = async (gathering: ReturnType<typeof gather>): Promise<string[]> => {
    const gathered = await gathering;
    assert.ok(gathered.kind === 'members', gathered.kind);
    return gathered.members.map(({ worker }) => worker.workerId);
  };
  const join = async (workerId: string): Promise<ScriptedHandle> => {
    const worker = room.join(workerId);
    await clock.advance(200);
    return worker;
  };
  const getReady = async (worker: ScriptedHandle): Promise<void> => {
    room.say(worker, readyMessage(null));
    await rest();
  };
  return { clock, room, reasons, stop, asked, gather, idsOf, join, getReady };
}

describe('gathering workers', () => {
  test('at the start it waits for startWorkers, and for workers that still load', async () => {
    const { gather, idsOf, join, getReady, reasons } = start({ startWorkers: 2, minWorkers: 1 });
    const gathering = gather();
    const workers = [await join('b'), await join('a'), await join('c')];
    for (const worker of workers.slice(0, 2)) await getReady(worker);
    assert.match(reasons.at(-1)!, /2 of 3 workers ready: waiting for c on h to load/u);
    await getReady(workers[2]!);
    assert.deepEqual(await idsOf(gathering), ['a', 'b', 'c']);
  });

  test('later minWorkers are enough, in their earlier ranks, with newcomers behind them', async () => {
    const { gather, idsOf, room } = start({ startWorkers: 4 }, { ids: ['z', 'gone', 'b'] });
    for (const workerId of ['a', 'b', 'z']) room.ready(workerId, { step: 0 });
    assert.deepEqual(await idsOf(gather()), ['z', 'b', 'a']);
  });

  test('at most maxWorkers train, survivors before newcomers', async () => {
    const { gather, idsOf, room } = start({ maxWorkers: 2 }, { ids: ['x', 'y'] });
    for (const workerId of ['a', 'y', 'x']) room.ready(workerId, { step: 0 });
    assert.deepEqual(await idsOf(gather()), ['x', 'y']);
  });

  test('a worker whose links are not proved takes part only where too few others are left, or none of them has the state', async () => {
    for (const [others, heldStep, members] of [
      [['x', 'y'], 5, ['x', 'y']],
      [['x'], 5, ['x', 'b']],
      [['x', 'y'], 4, ['x', 'y', 'b']],
    ] as const) {
      const init = { ids: ['x', 'y', 'b'], isHolder: (step: number) => step >= 5, needsHolder: true };
      const { gather, idsOf, room, clock } = start({ minWorkers: 2 }, init);
      for (const workerId of others) room.ready(workerId, { step: heldStep });
      room.ready('b', { step: 5 });
      room.roster.links.leaveOut('b', 'its links break');
      await clock.advance(30_000);
      assert.deepEqual(await idsOf(gather()), members);
    }
  });

  test('without maxWorkers at most one worker a lane trains', async () => {
    const { gather, idsOf, room } = start();
    for (const workerId of ['a', 'b', 'c', 'd', 'e', 'f']) room.ready(workerId);
    assert.deepEqual(await idsOf(gather()), ['a', 'b', 'c', 'd']);
  });

  test('a restarted coordinator waits five seconds for the last members', async () => {
    const init = {
      ids: ['a', 'b', 'c'],
      mustReturn: true,
      isHolder: (step: number) => step >= 5,
      needsHolder: true,
    };
    const { gather, idsOf, room, clock, reasons } = start({}, init);
    room.ready('a', { step: 5 });
    room.ready('b', { step: 5 });
    const gathering = gather();
    await rest();
    assert.match(reasons.at(-1)!, /2 workers ready: waiting for c to come back/u);
    for (let ms = 0; ms < 4_800; ms += 200) await clock.advance(200);
    assert.match(reasons.at(-1)!, /waiting for c/u);
    await clock.advance(200);
    assert.deepEqual(await idsOf(gathering), ['a', 'b']);
  });

  test('survivors that hold the state do not wait for lost members', async () => {
    const init = { ids: ['a', 'b', 'c'], isHolder: (step: number) => step >= 5, needsHolder: true };
    const { gather, idsOf, room } = start({}, init);
    room.ready('a', { step: 5 });
    room.ready('b', { step: 4 });
    assert.deepEqual(await idsOf(gather()), ['a', 'b']);
  });

  test('without a holder it waits for the last members, and then the run must go back', async () => {
    const init = { ids: ['a', 'b', 'c'], isHolder: (step: number) => step >= 5, needsHolder: true };
    const { gather, room, clock } = start({}, init);
    room.ready('a', { step: 4 });
    room.ready('z');
    const gathering = gather();
    for (let ms = 0; ms <= 5_000; ms += 200) await clock.advance(200);
    const gathered = await gathering;
    assert.ok(gathered.kind === 'rewind');
    assert.match(gathered.reason, /none of 2 ready workers holds the state of the last step/u);
  });

  test('it does not wait for a holder whose process is known to have ended: the run goes back at once', async () => {
    const ended = new Set<string>();
    const hasEnded = (workerId: string): boolean => ended.has(workerId);
    const { gather, room, clock } = start({}, { ids: ['a', 'b'], hasEnded, isHolder: () => false, needsHolder: true });
    room.ready('a', { step: 4 });
    room.ready('z');
    const gathering = gather();
    await clock.advance(200);
    ended.add('b');
    await clock.advance(200);
    assert.equal((await gathering).kind, 'rewind');
  });

  test('a state beyond the committed step makes a holder: its report may still arrive', async () => {
    const { gather, idsOf, room } = start(
      {},
      { ids: ['a', 'b'], isHolder: (step: number) => step >= 5, needsHolder: true },
    );
    room.ready('a', { step: 6 });
    room.ready('b', { step: 4 });
    assert.deepEqual(await idsOf(gather()), ['a', 'b']);
  });

  test('a stop before any worker has trained ends it at once', async () => {
    const { gather, room, asked } = start();
    room.ready('a');
    asked.stopReason = 'SIGTERM';
    assert.deepEqual(await gather(), { kind: 'stopped' });
  });

  test('a later stop takes the present workers to save the state, and ends without any', async () => {
    const { gather, idsOf, room, asked } = start({ minWorkers: 3 }, { ids: ['a', 'b'] });
    asked.stopReason = 'SIGTERM';
    assert.deepEqual(await gather(), { kind: 'stopped' });
    room.ready('b', { step: 0 });
    assert.deepEqual(await idsOf(gather()), ['b']);
  });

  test('a worker process that is not restarted ends the wait if too few are left, with the last error of a worker', async () => {
    const { gather, room, asked, clock } = start();
    const worker = room.join('a');
    const gathering = gather();
    const error = { code: 'ENGINE_UNAVAILABLE', message: 'no GPU' };
    room.say(worker, { kind: 'failed', epoch: 4, generation: 0, error });
    await rest();
    asked.workerFailure = 'local-1 ended three times';
    await clock.advance(200);
    await assert.rejects(gathering, { code: 'WORKER_LOST', message: /local-1 ended three times; worker a .*no GPU/u });
  });

  test('later a worker process that is not restarted does not end the wait while enough load', async () => {
    const { gather, idsOf, room, asked, getReady } = start({}, { ids: ['a', 'b'] });
    const workers = [room.join('a'), room.join('b')];
    asked.workerFailure = 'local-2 ended three times';
    const gathering = gather();
    for (const worker of workers) await getReady(worker);
    assert.deepEqual(await idsOf(gathering), ['a', 'b']);
  });

  test('fails when the time is over, and is aborted by the signal', async () => {
    const { gather, clock, stop } = start();
    const gathering = gather();
    for (let ms = 0; ms <= 60_000; ms += 200) await clock.advance(200);
    await assert.rejects(gathering, { code: 'RENDEZVOUS_TIMEOUT', message: /after 60 s 0 of 2 workers/u });
    const other = gather();
    await rest();
    stop.abort();
    await assert.rejects(other, { code: 'ABORTED' });
  });
});
