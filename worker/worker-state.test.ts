/** Where the state of a worker comes from, generation by generation, over real sessions. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import type { StateSource } from '../shared/protocol/messages.ts';
import { EPOCH, formOf, RUN_ID, welcome } from './network/network-session.fixture.ts';
import { initialiseParameters } from './model/initialise.ts';
import {
  abortWorkers,
  dealTo,
  failureOf,
  formWorkers,
  makeGate,
  openReady,
  SEED,
  untilTold,
} from './worker.fixture.ts';

const fromSeed: { readonly state: StateSource } = { state: { kind: 'start', checkpoint: null } };
const held = (step: number): { readonly state: StateSource; readonly firstStep: number } => ({
  state: { kind: 'held', step },
  firstStep: step + 1,
});

describe('state of a worker', { timeout: 240_000 }, () => {
  test('it is ready without a state, starts from the seed, and proves it', async (t) => {
    const { peer, worker, workers, members } = await openReady(t);
    const ready = peer.received.find(({ kind }) => kind === 'ready')!;
    assert.deepEqual(ready, {
      kind: 'ready',
      epoch: EPOCH,
      held: null,
      engine: 'plain',
      engineFingerprint: 'plain 1',
      engineNotes: ['a note'],
      predicted: { microbatchMs: 1, updateMs: 2, workerBytes: 3 },
      mixtureHash: 'ab'.repeat(32),
      numParameters: worker.engine.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0),
    });
    const [digest] = await formWorkers(workers, members, { ...fromSeed, proveState: true });
    assert.equal(digest, parameterDigest(initialiseParameters(worker.engine.parameters, SEED)));
    assert.equal(digest, worker.engine.digests()[0]);
    assert.deepEqual(await abortWorkers(workers, 2), [0]);
  });

  test('it holds the state from one generation to the next, without loading it again', async (t) => {
    const { peer, worker, workers, members } = await openReady(t);
    await formWorkers(workers, members, fromSeed);
    for (const step of [1, 2]) dealTo(workers, members, step);
    await peer.receive('report');
    await peer.receive('report');
    const before = worker.engine.digests();
    assert.deepEqual(await formWorkers(workers, members, { generation: 3, ...held(2) }), [undefined]);
    assert.deepEqual(await formWorkers(workers, members, { generation: 4, ...held(2), proveState: true }), [before[0]]);
    assert.equal(worker.engine.numLoads, 1);
    dealTo(workers, members, 3, { generation: 4 });
    assert.equal((await peer.receive('report')).step, 3);
    assert.deepEqual(await abortWorkers(workers, 4), [3]);
  });

  test('one worker copies it from another: the same bytes, and the same as without the other', async (t) => {
    const one = await openReady(t);
    await formWorkers(one.workers, one.members, fromSeed);
    for (const step of [1, 2, 3, 4]) dealTo(one.workers, one.members, step);
    for (let i = 0; i < 4; i++) await one.peer.receive('report');

    const two = await openReady(t, 2);
    const [first, second] = [two.workers[0]!, two.workers[1]!];
    const alone = [{ ...two.members[0]!, lanes: { first: 0, end: 4 } }];
    await formWorkers([first], alone, fromSeed);
    for (const step of [1, 2]) dealTo([first], alone, step);
    for (let i = 0; i < 2; i++) await first.peer.receive('report');
    const digests = await formWorkers(two.workers, two.members, (rank) => ({
      generation: 3,
      firstStep: 3,
      state: rank === 0 ? { kind: 'held', step: 2 } : { kind: 'peers', ranks: [0] },
      receivers: rank === 0 ? [1] : [],
      proveState: true,
    }));
    assert.deepEqual(digests, [first.engine.digests()[0], first.engine.digests()[0]]);
    assert.deepEqual(second.engine.digests(), first.engine.digests());
    for (const step of [3, 4]) dealTo(two.workers, two.members, step, { generation: 3, proveState: step === 4 });
    for (const step of [3, 4]) {
      const [a, b] = [await first.peer.receive('report'), await second.peer.receive('report')];
      assert.deepEqual([a.step, a.gradDigest, a.paramDigest], [b.step, b.gradDigest, b.paramDigest]);
      assert.equal(a.paramDigest, step === 4 ? one.worker.engine.digests()[0] : undefined);
    }
    assert.deepEqual(second.engine.digests(), one.worker.engine.digests());
  });

  test('the offered state is that of the step boundary, while the holder waits for the others', async (t) => {
    const { workers, members } = await openReady(t, 3);
    const [holder, second, third] = [workers[0]!, workers[1]!, workers[2]!];
    const alone = [{ ...members[0]!, lanes: { first: 0, end: 4 } }];
    await formWorkers([holder], alone, fromSeed);
    const sources = (rank: number) => ({
      generation: 3,
      state: rank === 0 ? { kind: 'held' as const, step: 0 } : { kind: 'peers' as const, ranks: [0] },
      receivers: rank === 0 ? [1, 2] : [],
    });
    // The third one hears of the generation when the others are formed but for it.
    for (const rank of [0, 1]) workers[rank]!.peer.send(formOf(members, rank, sources(rank)));
    third.peer.send(formOf(members, 2, sources(2)));
    for (const { peer } of workers) await peer.receive('formed');
    assert.deepEqual(second.engine.digests(), holder.engine.digests());
    assert.deepEqual(third.engine.digests(), holder.engine.digests());
  });

  test('an aborted copy leaves the state held before, and the next generation copies anew', async (t) => {
    const { workers, members } = await openReady(t, 2);
    const [holder, behind] = [workers[0]!, workers[1]!];
    await formWorkers(workers, members, fromSeed);
    dealTo(workers, members, 1);
    for (const { peer } of workers) await peer.receive('report');
    assert.deepEqual(await abortWorkers(workers, 2), [1, 1]);
    // The holder is not told of generation 3: the copy and the links wait for it.
    behind.peer.send(formOf(members, 1, { generation: 3, firstStep: 2, state: { kind: 'peers', ranks: [0] } }));
    assert.deepEqual(await abortWorkers([behind], 3), [1]);
    assert.ok(!behind.peer.received.some((said) => said.kind === 'failed' && said.generation === 3));
    behind.peer.send(formOf(members, 1, { generation: 4, ...held(2) }));
    const error = await failureOf(behind, 4);
    assert.equal(error.code, 'INTERNAL');
    assert.match(error.message, /step 2 expected, step 1 is held/u);
    assert.deepEqual(await abortWorkers([behind], 4), [1]);
    await formWorkers(workers, members, (rank) => ({
      generation: 5,
      firstStep: 2,
      state: rank === 0 ? { kind: 'held', step: 1 } : { kind: 'peers', ranks: [0] },
      receivers: rank === 0 ? [1] : [],
    }));
    assert.deepEqual(behind.engine.digests(), holder.engine.digests());
    assert.deepEqual(await abortWorkers(workers, 5), [1, 1]);
  });

  test('a holder that dies during the copy is reported, and no state is held', async (t) => {
    const { workers, members } = await openReady(t, 2);
    const [holder, behind] = [workers[0]!, workers[1]!];
    await formWorkers([holder], [{ ...members[0]!, lanes: { first: 0, end: 4 } }], fromSeed);
    behind.peer.send(formOf(members, 1, { generation: 3, state: { kind: 'peers', ranks: [0] } }));
    holder.stop.abort('SIGTERM');
    assert.equal(await holder.ended, 'ABORTED');
    const { error } = await behind.peer.receive('failed');
    assert.equal(error.code, 'CONNECT_FAILED');
    assert.deepEqual(await abortWorkers([behind], 3), [null]);
    assert.equal(behind.peer.received.filter(({ kind }) => kind === 'failed').length, 1);
  });

  test('a state of another step than the coordinator says is INTERNAL, and is still held', async (t) => {
    const { peer, workers, members } = await openReady(t);
    await formWorkers(workers, members, fromSeed);
    peer.send(formOf(members, 0, { generation: 3, ...held(4) }));
    const { error, generation } = await peer.receive('failed');
    assert.deepEqual([error.code, generation], ['INTERNAL', 3]);
    assert.match(error.message, /step 4 expected, step 0 is held/u);
    assert.deepEqual(await abortWorkers(workers, 3), [0]);
  });

  test('steps that are skipped count as done', async (t) => {
    const { peer, worker, workers, members } = await openReady(t);
    await formWorkers(workers, members, fromSeed);
    const before = worker.engine.digests();
    await formWorkers(workers, members, { generation: 3, state: { kind: 'held', step: 0 }, firstStep: 4 });
    assert.deepEqual(worker.engine.digests(), before);
    dealTo(workers, members, 4, { generation: 3 });
    assert.equal((await peer.receive('report')).step, 4);
    assert.deepEqual(await abortWorkers(workers, 3), [4]);
  });

  test('a missing checkpoint is reported, and the state held before stays held', async (t) => {
    const { peer, workers, members } = await openReady(t);
    await formWorkers(workers, members, fromSeed);
    peer.send(formOf(members, 0, { generation: 3, state: { kind: 'start', checkpoint: '/nowhere' } }));
    assert.equal((await peer.receive('failed')).generation, 3);
    assert.deepEqual(await abortWorkers(workers, 3), [0]);
  });

  test('an abort while the state is loaded waits for the loading, and nothing is formed', async (t) => {
    const { peer, worker, workers, members } = await openReady(t);
    const gate = makeGate();
    worker.engine.onLoad = gate.hook;
    peer.send(formOf(members, 0, fromSeed));
    await gate.reached;
    const aborting = abortWorkers(workers, 2);
    await untilTold(worker, 'abort', 2);
    gate.open();
    assert.deepEqual(await aborting, [0]);
    assert.ok(!peer.received.some(({ kind }) => kind === 'formed' || kind === 'failed'));
  });

  test('a returning coordinator gets the held state, and training continues from it', async (t) => {
    const { coordinator, peer, worker, workers, members } = await openReady(t);
    await formWorkers(workers, members, fromSeed);
    dealTo(workers, members, 1);
    await peer.receive('report');
    peer.close('CONNECTION_LOST', 'killed');
    const next = await coordinator.peer();
    next.send(welcome(EPOCH + 1, { committedStep: 1 }));
    assert.deepEqual((await next.receive('ready')).held, { runId: RUN_ID, epoch: EPOCH, step: 1 });
    const ids = { epoch: EPOCH + 1, generation: 1 };
    const again = [{ ...worker, peer: next }];
    await formWorkers(again, members, { ...ids, ...held(1) });
    dealTo(again, members, 2, ids);
    assert.equal((await next.receive('report')).step, 2);
    assert.equal(worker.engine.numLoads, 1);
    next.close('CONNECTION_LOST', 'killed');
    const third = await coordinator.peer();
    third.send(welcome(EPOCH + 2, { committedStep: 2 }));
    assert.deepEqual((await third.receive('ready')).held, { runId: RUN_ID, epoch: EPOCH + 1, step: 2 });
  });
});
