/** What a worker does with steps, saves and aborts, and what ends it, over real sessions and an engine that the test holds up or breaks. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { TrainerError } from '../shared/errors.ts';
import type { WorkerMessage } from '../shared/protocol/messages.ts';
import { encodeTokenRows } from '../shared/protocol/token-rows.ts';
import { abort, EPOCH, formOf, ids, RAW_CONFIG, save, welcome } from './network/network-session.fixture.ts';
import type { ScriptedPeer } from './scripted-coordinator.fixture.ts';
import { abortWorkers, dealTo, formWorkers, makeGate, openReady, untilTold } from './worker.fixture.ts';

const fromSeed = { state: { kind: 'start' as const, checkpoint: null } };
const asTheTestWants = (code: ConstructorParameters<typeof TrainerError>[0]) =>
  new TrainerError(code, 'as the test wants');
const receivedOf = (peer: ScriptedPeer, kind: WorkerMessage['kind']) =>
  peer.received.filter((message) => message.kind === kind);

async function openFormed(...args: Parameters<typeof openReady>) {
  const opened = await openReady(...args);
  await formWorkers(opened.workers, opened.members, fromSeed);
  return opened;
}

describe('commands of a worker', { timeout: 240_000 }, () => {
  test('an abort in the middle of a step is answered with the steps applied, and no deal of the generation is computed', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    dealTo(workers, members, 1);
    await peer.receive('report');
    const gate = makeGate();
    worker.engine.onStep = gate.hook;
    for (const step of [2, 3, 4]) dealTo(workers, members, step);
    await gate.reached;
    const aborting = abortWorkers(workers, 2);
    await untilTold(worker, 'abort', 2);
    gate.open();
    assert.deepEqual(await aborting, [1]);
    assert.deepEqual([...new Set(worker.engine.computed)], [1, 2]);
    assert.equal(receivedOf(peer, 'report').length, 1);
    await formWorkers(workers, members, { generation: 3, firstStep: 2, state: { kind: 'held', step: 1 } });
    dealTo(workers, members, 2, { generation: 3 });
    assert.equal((await peer.receive('report')).step, 2);
    assert.deepEqual(receivedOf(peer, 'failed'), []);
  });

  test('a batch that cannot be evaluated is answered with its failure, and the worker trains on', async (t) => {
    const { peer, workers, members } = await openFormed(t);
    dealTo(workers, members, 1);
    const [inputs, targets] = [encodeTokenRows([[5, 1]]), encodeTokenRows([[5, 6, 1]])];
    const shape = { inputsLength: 2, targetsLength: 2, numRows: 1 };
    peer.send({ kind: 'evaluate', ...{ epoch: EPOCH, generation: 2 }, batch: 4, work: { kind: 'score', inputs, targets, ...shape } }); // prettier-ignore
    const { kind, result, ...rest } = await peer.receive('evaluated');
    assert.deepEqual([kind, rest], ['evaluated', { epoch: EPOCH, generation: 2, batch: 4 }]);
    assert.ok(result.kind === 'failed');
    assert.equal(result.error.code, 'MESSAGE_INVALID');
    dealTo(workers, members, 2);
    assert.equal((await peer.receive('report')).step, 1);
    assert.equal((await peer.receive('report')).step, 2);
  });

  test('an abort in the middle of an update comes after it: the step counts, and its report is there first', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    const gate = makeGate();
    worker.engine.onApply = gate.hook;
    dealTo(workers, members, 1);
    await gate.reached;
    const aborting = abortWorkers(workers, 2);
    await untilTold(worker, 'abort', 2);
    gate.open();
    assert.deepEqual(await aborting, [1]);
    assert.deepEqual(
      peer.received.slice(-2).map(({ kind }) => kind),
      ['report', 'aborted'],
    );
  });

  test('a generation that is aborted before its turn among the commands comes is answered as that one', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    const gate = makeGate();
    worker.writer.onSave = gate.hook;
    peer.send({ ...save, step: 0, stateStep: 0 });
    await gate.reached;
    peer.send(formOf(members, 0, { generation: 3, ...fromSeed }));
    const aborting = abortWorkers(workers, 3);
    await untilTold(worker, 'abort', 3);
    gate.open();
    assert.deepEqual(await aborting, [0]);
    assert.equal(worker.engine.numLoads, 1, 'generation 3 was not begun');
  });

  test('a gradient that is not finite is reported, nothing is applied, and the next generation skips the step', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    const before = worker.engine.digests();
    worker.engine.gradientScale = NaN;
    for (const step of [1, 2]) dealTo(workers, members, step);
    const { kind, reason, losses, ...where } = await peer.receive('not-finite');
    assert.deepEqual([where, losses], [{ ...ids, step: 1 }, []]);
    assert.match(reason, /^the gradient of \S+ is not finite$/u);
    assert.deepEqual(await abortWorkers(workers, 2), [0]);
    assert.deepEqual(worker.engine.digests(), before);
    assert.deepEqual(
      worker.engine.computed.filter((step) => step !== 1),
      [],
      `${kind}: nothing after it`,
    );
    worker.engine.gradientScale = 1;
    await formWorkers(workers, members, { generation: 3, firstStep: 2, state: { kind: 'held', step: 0 } });
    dealTo(workers, members, 2, { generation: 3 });
    assert.equal((await peer.receive('report')).step, 2);
    assert.deepEqual([receivedOf(peer, 'failed'), receivedOf(peer, 'not-finite').length], [[], 1]);
  });

  test('every rank reports a gradient that is not finite on one rank', async (t) => {
    const { workers, members } = await openFormed(t, 2);
    workers[1]!.engine.gradientScale = Infinity;
    dealTo(workers, members, 1);
    for (const { peer } of workers) assert.equal((await peer.receive('not-finite')).step, 1);
    assert.deepEqual(await abortWorkers(workers, 2), [0, 0]);
  });

  test('an update that fails in the middle ends the worker: its state is of no step', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    worker.engine.onApply = () => {
      throw asTheTestWants('ENGINE_OUT_OF_MEMORY');
    };
    dealTo(workers, members, 1);
    const { error, ...where } = await peer.receive('failed');
    assert.deepEqual([error.code, where], ['ENGINE_OUT_OF_MEMORY', { kind: 'failed', ...ids }]);
    assert.equal(await worker.ended, 'ENGINE_OUT_OF_MEMORY');
    assert.deepEqual(receivedOf(peer, 'report'), []);
  });

  test('a step that fails before the update is reported, and the held state stays', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    worker.feed.failure = asTheTestWants('SHARD_CORRUPT');
    for (const step of [1, 2]) dealTo(workers, members, step);
    assert.equal((await peer.receive('failed')).error.code, 'SHARD_CORRUPT');
    assert.deepEqual(await abortWorkers(workers, 2), [0]);
    assert.equal(receivedOf(peer, 'failed').length, 1);
  });

  test('broken channels are reported once, by the network thread', async (t) => {
    const { workers, members } = await openFormed(t, 2);
    const [first, second] = [workers[0]!, workers[1]!];
    dealTo([first], members, 1);
    second.stop.abort('SIGKILL');
    assert.equal((await first.peer.receive('failed')).error.code, 'CONNECTION_LOST');
    assert.deepEqual(await abortWorkers([first], 2), [0]);
    assert.equal(receivedOf(first.peer, 'failed').length, 1);
  });

  test('a deal that asks for it is reported with the digest of the parameters', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    dealTo(workers, members, 1, { proveState: true });
    assert.equal((await peer.receive('report')).paramDigest, worker.engine.digests()[0]);
    dealTo(workers, members, 2);
    assert.equal((await peer.receive('report')).paramDigest, undefined);
  });

  test('it saves the state of the step it is asked for, and none of a step that was not reached', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    dealTo(workers, members, 1);
    peer.send({ ...save, folder: '/early', step: 2, stateStep: 2 });
    peer.send({ ...save, folder: '/right', step: 1 });
    dealTo(workers, members, 2);
    await peer.receive('report');
    await peer.receive('report');
    peer.send({ ...save, folder: '/late', step: 1 });
    assert.deepEqual(await abortWorkers(workers, 2), [2]);
    assert.deepEqual(worker.writer.folders, ['/right']);
    peer.send({ ...save, folder: '/gone', step: 1 });
    peer.send({ ...save, folder: '/skipped', step: 4, stateStep: 3 });
    peer.send({ ...save, folder: '/after', step: 3, stateStep: 2 }); // what the survivors hold is saved
    const digest = worker.engine.digests()[0];
    while (!worker.writer.folders.includes('/after')) await new Promise(setImmediate);
    worker.writer.end();
    const { kind, ...saved } = await peer.receive('saved');
    assert.deepEqual([kind, saved], ['saved', { ...ids, step: 3, files: [], paramDigest: digest }]);
    assert.deepEqual(worker.writer.folders, ['/right', '/after']);
  });

  test('an abort stops a write, and nothing about it is reported', async (t) => {
    const { peer, worker, workers } = await openFormed(t);
    peer.send({ ...save, step: 0, stateStep: 0 });
    while (worker.writer.folders.length === 0) await new Promise(setImmediate);
    assert.deepEqual(await abortWorkers(workers, 2), [0]);
    assert.deepEqual([receivedOf(peer, 'saved'), receivedOf(peer, 'failed')], [[], []]);
  });

  test('a write that fails when the next generation is up is a failure of the one that was saved', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    peer.send({ ...save, step: 0, stateStep: 0 });
    while (worker.writer.folders.length === 0) await new Promise(setImmediate);
    await formWorkers(workers, members, { generation: 3, state: { kind: 'held', step: 0 } });
    worker.writer.end(asTheTestWants('DISK_FULL'));
    const { generation, error, unsavedStep } = await peer.receive('failed');
    assert.deepEqual([generation, error.code, unsavedStep], [2, 'DISK_FULL', 0]);
    dealTo(workers, members, 1, { generation: 3 });
    assert.equal((await peer.receive('report')).step, 1);
  });

  test('a worker with a state answers the probe of a returning coordinator, and is ready without an answer if it sees no such file', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'exmix-probe-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'coordinator');
    writeFileSync(path, 'the text');
    const { coordinator, peer, worker } = await openFormed(t);
    peer.close('CONNECTION_LOST', 'killed');
    const second = await coordinator.peer();
    second.send(welcome(EPOCH + 1, { probe: { path } }));
    const { probe } = await second.receive('ready');
    assert.equal(probe?.text, 'the text');
    assert.equal(readFileSync(join(folder, probe.file), 'utf8'), 'the text');
    second.close('CONNECTION_LOST', 'killed');
    const third = await coordinator.peer();
    third.send(welcome(EPOCH + 2, { probe: { path: join(folder, 'elsewhere', 'coordinator') } }));
    const ready = await third.receive('ready');
    assert.deepEqual([ready.probe, ready.held?.step], [undefined, 0]);
    const [warning] = worker.log.filter(({ msg }) => msg === 'run folder not seen');
    assert.match(String(warning?.['reason']), /cannot read .*elsewhere.*ENOENT/u);
  });

  for (const [what, more] of [
    ['another configuration', { config: { ...RAW_CONFIG, seed: 9 } }],
    ['another mixture', { mixtureHash: 'cd'.repeat(32) }],
    ['another folder', { preparedFolder: '/other' }],
  ] as const)
    test(`a returning coordinator with ${what} ends the worker with CONFIG_INVALID`, async (t) => {
      const { coordinator, peer, worker } = await openFormed(t);
      peer.close('CONNECTION_LOST', 'killed');
      const next = await coordinator.peer();
      next.send(welcome(EPOCH + 1, more));
      const { error, epoch, generation } = await next.receive('failed');
      assert.deepEqual([error.code, epoch, generation], ['CONFIG_INVALID', EPOCH + 1, 0]);
      assert.match(error.message, /the run continues with another (config|mixtureHash|preparedFolder) than/u);
      assert.equal(await worker.ended, 'CONFIG_INVALID');
      assert.deepEqual(receivedOf(next, 'ready'), []);
    });

  test('the worker continues with a returning coordinator that has other deadlines', async (t) => {
    const { coordinator, peer, worker } = await openFormed(t);
    peer.close('CONNECTION_LOST', 'killed');
    const next = await coordinator.peer();
    const config = { ...RAW_CONFIG, cluster: { ...RAW_CONFIG.cluster, stepTimeoutMs: 5_000 } };
    next.send(welcome(EPOCH + 1, { config }));
    await next.receive('ready');
    assert.ok(worker.log.some(({ msg }) => msg === 'waiting for the coordinator'));
  });

  test('after a coordinator is lost in the middle of a step, the next one gets `ready`, and earlier deals are dropped', async (t) => {
    const { coordinator, peer, worker, workers, members } = await openFormed(t);
    const gate = makeGate();
    worker.engine.onStep = gate.hook;
    for (const step of [1, 2, 3]) dealTo(workers, members, step);
    await gate.reached;
    peer.close('CONNECTION_LOST', 'killed');
    const next = await coordinator.peer();
    next.send(welcome(EPOCH + 1));
    await next.beats(1); // the link has taken the welcome
    gate.open();
    assert.equal((await next.receive('ready')).held?.step, 0);
    assert.deepEqual([...new Set(worker.engine.computed)], [1]);
    assert.ok(worker.feed.numDrops > 0);
    assert.deepEqual(
      next.received.map(({ kind }) => kind),
      ['join', 'ready'],
    );
  });

  test('finish ends the worker, also without a state', async (t) => {
    const { peer, worker } = await openReady(t);
    peer.send({ kind: 'finish', outcome: 'finished', reason: 'done' });
    assert.equal(await worker.ended, 'finished');
    assert.equal((await peer.closed).code, 1000);
  });

  test('a worker that is told to leave and holds no state leaves at once', async (t) => {
    const { peer, worker } = await openReady(t);
    worker.drain.abort('SIGTERM');
    assert.equal(await worker.ended, 'ABORTED');
    const { code, reason } = await peer.closed;
    assert.deepEqual([code, reason], [1000, 'the worker was stopped (SIGTERM)']);
    assert.deepEqual(receivedOf(peer, 'drain'), []);
  });

  test('one that holds the state asks for leave, trains and saves on, and leaves at finish', async (t) => {
    const { peer, worker, workers, members } = await openFormed(t);
    worker.drain.abort('SIGTERM');
    assert.equal((await peer.receive('drain')).reason, 'SIGTERM');
    dealTo(workers, members, 1);
    assert.equal((await peer.receive('report')).step, 1);
    peer.send({ ...save, step: 1, stateStep: 1 });
    while (worker.writer.folders.length === 0) await new Promise(setImmediate);
    worker.writer.end();
    assert.equal((await peer.receive('saved')).step, 1);
    peer.send({ kind: 'finish', outcome: 'interrupted', reason: 'saved' });
    assert.equal(await worker.ended, 'finished');
  });

  test('it asks the next coordinator too, before it is ready there', async (t) => {
    const { coordinator, peer, worker } = await openFormed(t);
    worker.drain.abort('SIGTERM');
    await peer.receive('drain');
    peer.close('CONNECTION_LOST', 'killed');
    const next = await coordinator.peer();
    next.send(welcome(EPOCH + 1));
    assert.equal((await next.receive('ready')).held?.step, 0);
    assert.deepEqual(
      next.received.map(({ kind }) => kind),
      ['join', 'drain', 'ready'],
    );
  });

  test('it leaves without an answer after cluster.drainGraceMs', async (t) => {
    const { coordinator, peer, worker } = await openFormed(t);
    peer.close('CONNECTION_LOST', 'killed');
    const next = await coordinator.peer();
    const config = { ...RAW_CONFIG, cluster: { ...RAW_CONFIG.cluster, drainGraceMs: 50 } };
    next.send(welcome(EPOCH + 1, { config }));
    await next.receive('ready');
    worker.drain.abort('SIGTERM');
    assert.equal(await worker.ended, 'ABORTED');
    assert.match((await next.closed).reason, /SIGTERM, and no leave from the coordinator within 50 ms/u);
    assert.equal(receivedOf(next, 'drain').length, 1);
  });

  test('a coordinator that breaks the order of messages ends the worker', async (t) => {
    const { peer, worker } = await openFormed(t);
    peer.send({ ...abort, generation: 7 });
    assert.equal(await worker.ended, 'MESSAGE_INVALID');
  });
});
