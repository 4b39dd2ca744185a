import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { HeldState, MessageOf } from '../../shared/protocol/messages.ts';
import { createLogger } from '../../shared/logger.ts';
import { formGeneration, type GenerationPlan } from './form-generation.ts';
import type { JournalRecord } from '../journal/journal-records.ts';
import { ManualClock, rest } from '../../shared/manual-clock.fixture.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { EPOCH, ScriptedRoster, type ScriptedHandle } from '../testing/scripted-handle.fixture.ts';

const GENERATION = 3;
const STEP = 7;
const A = 'ab'.repeat(32);
const B = 'cd'.repeat(32);
const CHECKPOINT = { path: '/run/checkpoints/step-7', paramDigest: A };

/** Workers with these states, of which a generation is being formed. */
function start(held: Readonly<Record<string, Partial<HeldState> | null>>, changes: Partial<GenerationPlan> = {}) {
  const clock = new ManualClock();
  const room = new ScriptedRoster(clock);
  const workers = Object.entries(held).map(([workerId, state]) => room.ready(workerId, state));
  const journal: JournalRecord[] = [];
  const reasons: string[] = [];
  const stop = new AbortController();
  const plan: GenerationPlan = {
    members: workers.map(({ handle }) => room.roster.of(handle)!),
    epoch: EPOCH,
    generation: GENERATION,
    step: STEP,
    isState: (heldStep) => heldStep === STEP,
    speeds: undefined,
    checkpoint: undefined,
    ...changes,
  };
  const forming = formGeneration(
    {
      config: room.config,
      plan,
      membership: { server: room.server, roster: room.roster },
      journal: { append: (record) => Promise.resolve(void journal.push(record)) },
      phase: { waitFor: (reason) => void reasons.push(reason) },
      runtime: { clock, log: createLogger({}) },
    },
    stop.signal,
  );
  forming.catch(() => undefined);
  const formed = (worker: ScriptedHandle, paramDigest?: string, generation = GENERATION): void => {
    const proof = paramDigest === undefined ? {} : { paramDigest };
    room.say(worker, { kind: 'formed', epoch: EPOCH, generation, ...proof });
  };
  return { clock, room, workers, journal, reasons, stop, forming, formed };
}

const formOf = ({ sent }: ScriptedHandle) =>
  sent.find((message): message is MessageOf<'form'> => message.kind === 'form')!;
const heldSteps = ({ roster }: ScriptedRoster) => roster.ready.map(({ heldStep }) => heldStep);

/** It ends with an error, or is broken off, to be formed again once the states are replaced. */
async function assertDiverged(forming: ReturnType<typeof formGeneration>, message: RegExp): Promise<void> {
  const error = await forming.then((result) => (result.kind === 'broken' ? result.error : undefined), toTrainerError);
  assert.equal(error?.code, 'STATE_DIVERGED');
  assert.match(error.message, message);
}

describe('forming a generation', () => {
  test('is journalled before any member receives it; all members receive all, and hold the state when all have formed', async () => {
    const { room, workers, journal, forming, formed, reasons } = start({ a: { step: STEP }, b: { step: STEP } });
    const [a, b] = workers;
    assert.equal(formOf(a!), undefined);
    await rest();
    assert.deepEqual(journal, [
      {
        kind: 'generation-formed',
        epoch: EPOCH,
        generation: GENERATION,
        firstStep: STEP + 1,
        members: ['a', 'b'],
        lanes: [
          [0, 2],
          [2, 4],
        ],
        engineFingerprint: 'scripted 1',
      },
    ]);
    const { members, secret, ...own } = formOf(b!);
    assert.equal(secret.byteLength, 32);
    assert.deepEqual(secret, formOf(a!).secret);
    assert.deepEqual(own, {
      kind: 'form',
      epoch: EPOCH,
      generation: GENERATION,
      rank: 1,
      firstStep: STEP + 1,
      state: { kind: 'held', step: STEP },
      receivers: [],
      proveState: false,
    });
    assert.deepEqual(members[1], {
      workerId: 'b',
      rank: 1,
      host: 'h',
      dataUrl: 'memory://b:1',
      lanes: { first: 2, end: 4 },
    });
    formed(a!);
    await rest();
    assert.equal(reasons.at(-1), 'waiting for links and state of b');
    formed(b!);
    const result = await forming;
    assert.equal(result.kind, 'formed');
    assert.deepEqual(result.generation.members, [a!.handle, b!.handle]);
    assert.deepEqual(heldSteps(room), [STEP, STEP]);
  });

  test('at the start all members begin from the seed and prove the same parameters', async () => {
    const { room, workers, forming, formed } = start({ a: null, b: null }, { step: 0 });
    await rest();
    for (const worker of workers) {
      assert.deepEqual([formOf(worker).state, formOf(worker).proveState], [{ kind: 'start', checkpoint: null }, true]);
      formed(worker, A);
    }
    assert.equal((await forming).kind, 'formed');
    assert.deepEqual(heldSteps(room), [0, 0]);
  });

  test('a late member copies the state from a holder, and is a holder afterwards', async () => {
    const { room, workers, forming, formed } = start({ a: { step: STEP }, b: null });
    await rest();
    assert.deepEqual(
      workers.map((worker) => [formOf(worker).state, formOf(worker).receivers, formOf(worker).proveState]),
      [
        [{ kind: 'held', step: STEP }, [1], true],
        [{ kind: 'peers', ranks: [0] }, [], true],
      ],
    );
    for (const worker of workers) formed(worker, B);
    assert.equal((await forming).kind, 'formed');
    assert.deepEqual(heldSteps(room), [STEP, STEP]);
  });

  const proofs: readonly [string, Partial<GenerationPlan>, (string | undefined)[], RegExp][] = [
    ['differ', {}, [A, B], /at step 7: no rank can be called right or wrong: .*abab.* on rank 0; cdcd.* on rank 1/u],
    ['are not given', {}, [A, undefined], /nothing on rank 1/u],
    [
      'agree, but are not those of the checkpoint',
      { checkpoint: CHECKPOINT },
      [B, B],
      /no rank has abab.*, the digest of the checkpoint/u,
    ],
  ];
  for (const [what, changes, digests, message] of proofs)
    test(`proofs that ${what} are STATE_DIVERGED`, async () => {
      const { workers, forming, formed } = start({ a: null, b: null }, changes);
      await rest();
      for (const [i, digest] of digests.entries()) formed(workers[i]!, digest);
      await assertDiverged(forming, message);
    });

  test('a copy that differs from what it was copied from is STATE_DIVERGED', async () => {
    const { workers, forming, formed } = start({ a: { step: STEP }, b: null }, { checkpoint: CHECKPOINT });
    await rest();
    formed(workers[0]!, B);
    formed(workers[1]!, A);
    await assertDiverged(forming, /cdcd.* on rank 0; abab.* on rank 1/u);
  });

  test('a lost member breaks the generation, and is removed', async () => {
    const { room, workers, forming } = start({ a: { step: STEP }, b: { step: STEP } });
    await rest();
    room.lose(workers[1]!);
    const result = await forming;
    assert.ok(result.kind === 'broken');
    assert.equal(result.error.code, 'WORKER_LOST');
    assert.deepEqual(
      room.roster.ready.map(({ worker }) => worker.workerId),
      ['a'],
    );
  });

  test('a failing member breaks the generation with its own error', async () => {
    const { room, workers, forming } = start({ a: { step: STEP }, b: { step: STEP } });
    await rest();
    const error = { code: 'CONNECT_FAILED', message: 'rank 0 does not answer' };
    room.say(workers[1]!, { kind: 'failed', epoch: EPOCH, generation: GENERATION, error });
    const result = await forming;
    assert.ok(result.kind === 'broken');
    assert.equal(result.error.code, 'CONNECT_FAILED');
    assert.match(result.error.message, /worker b .*rank 0 does not answer/u);
    assert.equal(workers[1]!.isClosed(), false);
  });

  test('late members are dropped and named', async () => {
    const { room, clock, workers, forming, formed } = start({ a: null, b: null, c: null });
    await rest();
    formed(workers[1]!, A);
    await rest();
    await clock.advance(room.config.cluster.stepTimeoutMs);
    const result = await forming;
    assert.ok(result.kind === 'broken');
    assert.match(result.error.message, /generation 3: late in waiting for links and state of a and c/u);
    assert.deepEqual(
      workers.map((worker) => worker.isClosed()),
      [true, false, true],
    );
  });

  test('messages of another generation or epoch are ignored, and newcomers are handled meanwhile', async () => {
    const { room, workers, forming, formed } = start({ a: { step: STEP } });
    await rest();
    formed(workers[0]!, undefined, GENERATION - 1);
    room.say(workers[0]!, { kind: 'formed', epoch: EPOCH - 1, generation: GENERATION });
    const error = { code: 'CONNECTION_LOST', message: 'an old link' };
    room.say(workers[0]!, { kind: 'failed', epoch: EPOCH, generation: GENERATION - 1, error });
    const newcomer = room.ready('z');
    await rest();
    formed(workers[0]!);
    const result = await forming;
    assert.equal(result.kind, 'formed');
    assert.deepEqual(
      room.roster.waiting(result.generation.members).map(({ worker }) => worker),
      [newcomer.handle],
    );
  });

  test('is aborted by the signal', async () => {
    const { stop, forming } = start({ a: null });
    await rest();
    stop.abort();
    await assert.rejects(forming, { code: 'ABORTED' });
  });
});
