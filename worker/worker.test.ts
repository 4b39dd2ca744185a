/** The worker with its real threads and real sockets, under a scripted coordinator. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { hashFile } from '../shared/atomic-file.ts';
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import { modelConfigSchema } from '../shared/model-config.ts';
import { asFloat32, readSafetensors } from '../shared/safetensors.ts';
import { initialiseParameters } from './model/initialise.ts';
import { parameterSpecs } from './model/parameters.ts';
import { membersOf } from './scripted-coordinator.fixture.ts';
import {
  NUM_LANES,
  SEED,
  START,
  config,
  deal,
  formAlone,
  formWithIdlePeer,
  ids,
  inPhase,
  mixture,
  save,
  start,
} from './worker-threads.fixture.ts';

describe('worker', { timeout: 240_000 }, () => {
  test('gets ready with the parameters of the seed, trains the dealt steps, saves its state, and leaves at finish', async (t) => {
    const { peer, ended } = await start(t);
    const ready = await peer.receive('ready');
    const specs = parameterSpecs(modelConfigSchema.parse(config.model));
    const initial = initialiseParameters(specs, SEED);
    assert.deepEqual([ready.held, ready.engine, ready.mixtureHash, ready.epoch], [null, 'wasm', mixture.hash, 1]);
    peer.send({ ...START, ...ids, rank: 0, members: membersOf([await peer.receive('join')], NUM_LANES) });
    assert.equal((await peer.receive('formed')).paramDigest, parameterDigest(initial));
    for (const step of [1, 2]) deal(peer, step, [0, 1]);
    const folder = save(peer, 2);
    for (const step of [1, 2]) {
      const report = await peer.receive('report');
      assert.equal(report.step, step);
      assert.deepEqual(
        report.lanes.map(({ lane }) => lane),
        [0, 1],
      );
      const sums = report.lanes.flatMap(({ tasks }) => tasks);
      const meanLoss = sums.reduce((sum, { loss }) => sum + loss, 0) / sums.reduce((sum, x) => sum + x.targetTokens, 0);
      assert.ok(meanLoss > 0.5 && meanLoss < 20, `mean loss ${meanLoss}`);
      assert.ok(report.gradSumOfSquares > 0);
    }
    const saved = await peer.receive('saved');
    assert.equal(saved.step, 2);
    assert.deepEqual(saved.files.map(({ file }) => file).sort(), readdirSync(folder).sort());
    for (const { file, bytes, sha256 } of saved.files)
      assert.deepEqual(await hashFile(join(folder, file)), { bytes, sha256 });
    const held = new Map<string, Float32Array>();
    for (const { file } of saved.files.filter(({ file: name }) => name.startsWith('model')))
      for (const tensor of (await readSafetensors(join(folder, file))).tensors.values())
        held.set(tensor.name, asFloat32(tensor));
    assert.equal(parameterDigest(held), saved.paramDigest);
    assert.notEqual(saved.paramDigest, parameterDigest(initial));
    peer.send({ kind: 'finish', outcome: 'finished', reason: 'done' });
    assert.equal(await ended, 'finished');
    assert.equal((await peer.closed).code, 1000);
  });

  test('an abort in the middle of a step is answered with the last applied step; queued commands are dropped, later ones are executed', async (t) => {
    const running = await start(t);
    const { peer, ended } = running;
    await formWithIdlePeer(t, running);
    deal(peer, 1, [0]);
    deal(peer, 2, [0]);
    const stale = save(peer, 2);
    await inPhase(peer, 'communicate');
    peer.send({ ...ids, kind: 'abort', reason: 'rank 1 was lost' });
    assert.equal((await peer.receive('aborted')).step, 0);
    const folder = save(peer, 0);
    const saved = await peer.receive('saved');
    assert.equal(saved.step, 0);
    assert.deepEqual(readdirSync(folder).sort(), saved.files.map(({ file }) => file).sort());
    assert.deepEqual(readdirSync(stale), []);
    peer.send({ kind: 'finish', outcome: 'failed', reason: 'rank 1 was lost' });
    assert.equal(await ended, 'finished');
    assert.ok(!peer.received.some(({ kind }) => kind === 'failed' || kind === 'report'));
  });

  test('a coordinator that goes silent in the middle of a step, and welcomes nobody again, ends it when the grace is over', async (t) => {
    const running = await start(t);
    await formWithIdlePeer(t, running);
    deal(running.peer, 1, [0]);
    await inPhase(running.peer, 'communicate');
    running.peer.answersHeartbeats = false;
    const again = await running.coordinator.peer();
    await again.receive('join');
    assert.equal(await running.ended, 'CONNECTION_LOST');
    assert.equal((await running.peer.closed).code, 4009);
  });

  test('its own signal ends it in the middle of a step; to the coordinator it has left', async (t) => {
    const running = await start(t);
    await formWithIdlePeer(t, running);
    deal(running.peer, 1, [0]);
    await inPhase(running.peer, 'communicate');
    running.stop.abort('SIGTERM');
    assert.equal(await running.ended, 'ABORTED');
    const { code, reason } = await running.peer.closed;
    assert.deepEqual([code, reason], [1000, 'the worker was stopped (SIGTERM)']);
    assert.ok(!running.peer.received.some(({ kind }) => kind === 'failed'));
  });

  test('a coordinator that says more than is ever dealt ahead is SEND_OVERFLOW, in the middle of a step too', async (t) => {
    const running = await start(t);
    await formWithIdlePeer(t, running);
    deal(running.peer, 1, [0]);
    await inPhase(running.peer, 'communicate');
    const ask = (): void => {
      for (let i = 0; i <= 512; i++)
        running.peer.send({
          ...ids,
          kind: 'save',
          step: 1,
          stateStep: 1,
          folder: '/nowhere',
          writer: 0,
          numWriters: 1,
        });
    };
    ask();
    await running.peer.beats(2); // the first half has left: more would not fit into the sender's queue
    ask();
    assert.equal((await running.peer.receive('failed')).error.code, 'SEND_OVERFLOW');
    assert.equal(await running.ended, 'SEND_OVERFLOW');
  });

  test('a gradient that is not finite is reported with its losses, and the state before it can still be saved', async (t) => {
    const { peer } = await start(t);
    await formAlone(peer);
    deal(peer, 1, [0, 1], 1e37);
    deal(peer, 2, [0, 1]);
    const { step, reason, losses } = await peer.receive('not-finite');
    assert.equal(step, 2);
    assert.match(reason, /^the gradient of \S+ is not finite$/u);
    assert.ok(losses.some(({ lane, task, loss }) => lane === 0 && task !== null && /NaN|Infinity/u.test(loss)));
    peer.send({ ...ids, kind: 'abort', reason });
    assert.equal((await peer.receive('aborted')).step, 1);
    save(peer, 1);
    assert.equal((await peer.receive('saved')).step, 1);
  });
});
