/** The worker with its real threads and real sockets, under a scripted coordinator. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { openPreparedMixture, type PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { encodeRows, type PlannedRow } from '../mixture/plan/planned-rows.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { writeSmallMixture } from '../mixture/prepare/small-mixture.fixture.ts';
import { hashFile } from '../shared/atomic-file.ts';
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import { systemClock } from '../shared/clock.ts';
import { toTrainerError } from '../shared/errors.ts';
import { createLogger } from '../shared/logger.ts';
import { modelConfigSchema } from '../shared/model-config.ts';
import { asFloat32, readSafetensors } from '../shared/safetensors.ts';
import { webSocketTransport } from '../shared/transport/websocket-transport.ts';
import { ProgressCell } from './compute/progress-cell.ts';
import { LinkSession } from './link/link-session.ts';
import { initialiseParameters } from './model/initialise.ts';
import { parameterSpecs } from './model/parameters.ts';
import { membersOf, ScriptedCoordinator, type ScriptedPeer } from './scripted-coordinator.fixture.ts';
import { Worker } from './worker.ts';

const TOKEN = 'a token of the test';
const SEED = 5;
const ids = { epoch: 1, generation: 1 };
const root = mkdtempSync(join(tmpdir(), 'exmix-worker-'));
const preparedFolder = join(root, 'prepared');
const featureLengths = { inputs: 64, targets: 32 };
let mixture: PreparedMixture;
let config: { readonly model: object };

before(async () => {
  const sources = writeSmallMixture(join(root, 'sources'), 20);
  await prepareMixture({ mixture: sources, outDir: preparedFolder, featureLengths });
  mixture = await openPreparedMixture(preparedFolder);
  const shape = { dModel: 16, dKv: 8, dFf: 32, numLayers: 1, numDecoderLayers: 1, numHeads: 2 };
  config = {
    name: 'test',
    seed: SEED,
    model: { vocabSize: mixture.tokenizer.vocabSize, ...shape },
    featureLengths,
    mixture: { path: '/x.yaml' },
    training: { steps: 9, rowsPerStep: 4, numLanes: 2, microbatchRows: 1 },
    schedule: { kind: 'constant', value: 0.01 },
    cluster: { heartbeatIntervalMs: 50, heartbeatTimeoutMs: 1_500 },
    collective: { link: 'direct', bucketBytes: 16_384, frameBytes: 16_384 },
  } as { readonly model: object };
});
after(() => {
  mixture.close();
  rmSync(root, { recursive: true });
});

interface Running {
  readonly coordinator: ScriptedCoordinator;
  readonly peer: ScriptedPeer;
  /** How `run` ended: the error's code, or "finished". */
  readonly ended: Promise<string>;
  readonly stop: AbortController;
}

/** Starts a worker and welcomes it. */
async function start(t: TestContext, { step = 0, prepared = preparedFolder, engine = 'wasm' } = {}): Promise<Running> {
  const coordinator = await ScriptedCoordinator.listen(webSocketTransport, TOKEN);
  const stop = new AbortController();
  const worker = new Worker({
    coordinatorUrl: coordinator.url,
    token: TOKEN,
    workerId: 'w0',
    listenHost: '127.0.0.1',
    listenPort: 0,
    advertiseHost: '127.0.0.1',
    engine,
    clock: systemClock,
    log: createLogger({ onRecord: () => undefined }),
  });
  const ended = worker.run(stop.signal).then(
    () => 'finished',
    (error: unknown) => toTrainerError(error).code,
  );
  t.after(async () => {
    stop.abort('the test is over');
    await ended;
    await coordinator.close();
  });
  const peer = await coordinator.peer();
  const { hash: mixtureHash } = mixture;
  peer.say({ kind: 'welcome', epoch: 1, config, preparedFolder: prepared, mixtureHash, checkpoint: null, step });
  return { coordinator, peer, ended, stop };
}

/** Forms a generation of the worker alone. */
async function formAlone(peer: ScriptedPeer, firstStep = 1): Promise<void> {
  await peer.heard('ready');
  peer.say({ ...ids, kind: 'form', rank: 0, members: membersOf([await peer.heard('join')]), firstStep });
  await peer.heard('formed');
}

/** Forms a generation with a second member that never computes, so that no step can end. Worker 0 holds lane 0. */
async function formWithIdlePeer(t: TestContext, { coordinator, peer }: Running, firstStep: number): Promise<void> {
  const address = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
  const idle = new LinkSession({
    data: {
      coordinatorUrl: coordinator.url,
      token: TOKEN,
      workerId: 'idle',
      ...address,
      progress: new ProgressCell().memory,
    },
    transport: webSocketTransport,
    clock: systemClock,
    emit: () => undefined,
    onEnd: () => undefined,
  });
  t.after(() => idle.take({ kind: 'leave', reason: 'the test is over' }));
  await idle.start();
  const second = await coordinator.peer();
  second.say({
    kind: 'welcome',
    epoch: 1,
    config,
    preparedFolder,
    mixtureHash: mixture.hash,
    checkpoint: null,
    step: 0,
  });
  await peer.heard('ready');
  const members = membersOf([await peer.heard('join'), await second.heard('join')]);
  for (const [rank, member] of [peer, second].entries()) member.say({ ...ids, kind: 'form', rank, members, firstStep });
  await Promise.all([peer.heard('formed'), second.heard('formed')]);
}

function deal(peer: ScriptedPeer, step: number, lanes: readonly number[], learningRate = 0.01): void {
  const rowsOf = (lane: number): PlannedRow[] =>
    [0, 1].map((row) => {
      const task = (step + row) % mixture.tasks.length;
      return [{ task, index: (2 * lane + step) % mixture.tasks[task]!.numExamples, epoch: 0 }];
    });
  const targetTokens = [0, 1]
    .flatMap(rowsOf)
    .flat()
    .reduce((sum, { task, index }) => sum + mixture.tasks[task]!.targetsLength(index), 0);
  const dealt = lanes.map((lane) => ({ lane, rows: encodeRows(rowsOf(lane)) }));
  peer.say({ ...ids, kind: 'deal', step, learningRate, targetTokens, lanes: dealt });
}

function save(peer: ScriptedPeer): string {
  const folder = mkdtempSync(join(root, 'checkpoint-'));
  peer.say({ ...ids, kind: 'save', folder, writer: 0, numWriters: 1 });
  return folder;
}

/** Resolves when the worker's heartbeats show it in that phase. */
async function inPhase(peer: ScriptedPeer, phase: string): Promise<void> {
  while (peer.heartbeats.at(-1)?.phase !== phase) await peer.beats(1);
}

describe('worker', { timeout: 60_000 }, () => {
  test('gets ready with the parameters of the seed, trains what it is dealt, saves what it holds, and leaves when all is done', async (t) => {
    const { peer, ended } = await start(t);
    const ready = await peer.heard('ready');
    const specs = parameterSpecs(modelConfigSchema.parse(config.model));
    const initial = initialiseParameters(specs, SEED);
    assert.equal(ready.paramDigest, parameterDigest(initial));
    assert.deepEqual([ready.step, ready.engine, ready.mixtureHash, ready.epoch], [0, 'wasm', mixture.hash, 1]);
    peer.say({ ...ids, kind: 'form', rank: 0, members: membersOf([await peer.heard('join')]), firstStep: 1 });
    await peer.heard('formed');
    for (const step of [1, 2]) deal(peer, step, [0, 1]);
    const folder = save(peer);
    for (const step of [1, 2]) {
      const report = await peer.heard('report');
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
    const saved = await peer.heard('saved');
    assert.equal(saved.step, 2);
    assert.deepEqual(saved.files.map(({ file }) => file).sort(), readdirSync(folder).sort());
    for (const { file, bytes, sha256 } of saved.files)
      assert.deepEqual(await hashFile(join(folder, file)), { bytes, sha256 });
    const held = new Map<string, Float32Array>();
    for (const { file } of saved.files.filter(({ file: name }) => name.startsWith('model')))
      for (const tensor of (await readSafetensors(join(folder, file))).tensors.values())
        held.set(tensor.name, asFloat32(tensor));
    assert.equal(parameterDigest(held), saved.paramDigest);
    assert.notEqual(saved.paramDigest, ready.paramDigest);
    peer.say({ kind: 'finish', reason: 'done' });
    assert.equal(await ended, 'finished');
    assert.equal((await peer.closed).code, 1000);
  });

  test('an abort in the middle of a step is answered with the last applied step; what was asked behind it is dropped, what is asked after it is done', async (t) => {
    const running = await start(t, { step: 7 });
    const { peer, ended } = running;
    await formWithIdlePeer(t, running, 8);
    deal(peer, 8, [0]);
    deal(peer, 9, [0]);
    const stale = save(peer);
    await inPhase(peer, 'communicate');
    peer.say({ ...ids, kind: 'abort', reason: 'rank 1 was lost' });
    assert.equal((await peer.heard('aborted')).step, 7);
    const folder = save(peer);
    const saved = await peer.heard('saved');
    assert.equal(saved.step, 7);
    assert.deepEqual(readdirSync(folder).sort(), saved.files.map(({ file }) => file).sort());
    assert.deepEqual(readdirSync(stale), []);
    peer.say({ kind: 'finish', reason: 'rank 1 was lost' });
    assert.equal(await ended, 'finished');
    assert.ok(!peer.said.some(({ kind }) => kind === 'failed' || kind === 'report'));
  });

  test('a coordinator that goes silent in the middle of a step is CONNECTION_LOST', async (t) => {
    const running = await start(t);
    await formWithIdlePeer(t, running, 1);
    deal(running.peer, 1, [0]);
    await inPhase(running.peer, 'communicate');
    running.peer.answersHeartbeats = false;
    assert.equal(await running.ended, 'CONNECTION_LOST');
  });

  test('its own signal ends it in the middle of a step; to the coordinator it has left', async (t) => {
    const running = await start(t);
    await formWithIdlePeer(t, running, 1);
    deal(running.peer, 1, [0]);
    await inPhase(running.peer, 'communicate');
    running.stop.abort('SIGTERM');
    assert.equal(await running.ended, 'ABORTED');
    const { code, reason } = await running.peer.closed;
    assert.deepEqual([code, reason], [1000, 'the worker was told to stop (SIGTERM)']);
    assert.ok(!running.peer.said.some(({ kind }) => kind === 'failed'));
  });

  test('a coordinator that says more than is ever dealt ahead is SEND_OVERFLOW, in the middle of a step too', async (t) => {
    const running = await start(t);
    await formWithIdlePeer(t, running, 1);
    deal(running.peer, 1, [0]);
    await inPhase(running.peer, 'communicate');
    const ask = (): void => {
      for (let i = 0; i <= 512; i++)
        running.peer.say({ ...ids, kind: 'save', folder: '/nowhere', writer: 0, numWriters: 1 });
    };
    ask();
    await running.peer.beats(2); // the first half has left: more would not fit into the sender's queue
    ask();
    assert.equal((await running.peer.heard('failed')).error.code, 'SEND_OVERFLOW');
    assert.equal(await running.ended, 'SEND_OVERFLOW');
  });

  test('a gradient that is not finite is told, and the state before it can still be saved', async (t) => {
    const { peer } = await start(t);
    await formAlone(peer);
    deal(peer, 1, [0, 1], 1e37);
    deal(peer, 2, [0, 1]);
    const { error } = await peer.heard('failed');
    assert.equal(error.code, 'GRADIENT_NOT_FINITE');
    assert.match(error.message, /^step 2: the gradient of \S+ is not finite; lane 0 has non-finite losses of \w+ /u);
    peer.say({ ...ids, kind: 'abort', reason: error.message });
    assert.equal((await peer.heard('aborted')).step, 1);
    save(peer);
    assert.equal((await peer.heard('saved')).step, 1);
  });

  test('a shard that is damaged under way is told with its code, and the state before it can still be saved', async (t) => {
    const prepared = join(root, 'damaged');
    cpSync(preparedFolder, prepared, { recursive: true });
    const { peer } = await start(t, { prepared });
    await formAlone(peer);
    for (const name of readdirSync(prepared, { recursive: true, encoding: 'utf8' }))
      if (name.endsWith('.tokens')) truncateSync(join(prepared, name), 0);
    deal(peer, 1, [0, 1]);
    const { error } = await peer.heard('failed');
    assert.equal(error.code, 'SHARD_CORRUPT');
    assert.match(error.message, /step 1 lane 0 microbatch 0/u);
    peer.say({ ...ids, kind: 'abort', reason: error.message });
    assert.equal((await peer.heard('aborted')).step, 0);
  });

  test('a deal of other lanes than its own is told as MESSAGE_INVALID', async (t) => {
    const { peer } = await start(t);
    await formAlone(peer);
    deal(peer, 1, [1, 0]);
    assert.equal((await peer.heard('failed')).error.code, 'MESSAGE_INVALID');
  });

  test('an engine that does not exist ends it with NAME_UNKNOWN, and the coordinator hears why', async (t) => {
    const { peer, ended } = await start(t, { engine: 'wasn' });
    assert.equal((await peer.heard('failed')).error.code, 'NAME_UNKNOWN');
    assert.equal(await ended, 'NAME_UNKNOWN');
  });

  test('another mixture than the run was started with ends it with MIXTURE_MISMATCH', async (t) => {
    const prepared = join(root, 'other');
    const sources = writeSmallMixture(join(root, 'other-sources'), 21);
    await prepareMixture({ mixture: sources, outDir: prepared, featureLengths });
    const { peer, ended } = await start(t, { prepared });
    assert.equal((await peer.heard('failed')).error.code, 'MIXTURE_MISMATCH');
    assert.equal(await ended, 'MIXTURE_MISMATCH');
  });
});
