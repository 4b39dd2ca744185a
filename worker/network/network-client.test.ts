/** The client in the compute thread; the test plays the network thread. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { abort, deal, EPOCH, formOf, nobody, welcome } from './network-session.fixture.ts';
import type { NetworkEvent, NetworkRequest } from './network-messages.ts';
import { NetworkClient } from './network-client.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

const never = new AbortController().signal;
const tensors = { parameters: new Map<string, Float32Array>(), optimizerSlots: new Map<string, Float32Array>() };
const form = (generation: number): NetworkEvent => formOf([nobody], 0, { generation });
const reduced = (step: number): NetworkEvent => ({
  kind: 'reduced',
  step,
  sumOfSquares: 1,
  firstNonFiniteBytes: null,
});
const failed = (generation: number): NetworkEvent => {
  const error = { code: 'COLLECTIVE_TIMEOUT' as const, message: `of generation ${generation}` };
  return { kind: 'generation-failed', generation, error };
};

function make() {
  const posted: NetworkRequest[] = [];
  const deals: number[] = [];
  const waits: string[] = [];
  let emit!: (event: NetworkEvent) => void;
  let fail!: (error: TrainerError) => void;
  let exit!: () => void;
  let isStopped = false;
  const exited = new Promise<void>((resolve) => (exit = resolve));
  const clock = new ManualClock();
  const client = new NetworkClient({
    start: (onEvent, onFailed) => {
      [emit, fail] = [onEvent, onFailed];
      const stop = (): Promise<void> => {
        isStopped = true;
        return Promise.resolve();
      };
      return { post: (request) => void posted.push(request), exited, stop };
    },
    clock,
    onDeal: ({ step }) => void deals.push(step),
    onRefused: () => undefined,
    onNoOutbox: () => undefined,
    onWaiting: (reason) => void waits.push(reason),
  });
  return { client, posted, deals, waits, emit, fail, exit, clock, isStopped: () => isStopped };
}

describe('network client', { timeout: 240_000 }, () => {
  test('commands come in their order, deals are passed on at once, and `waiting` is reported', async () => {
    const { client, emit, deals, waits } = make();
    const first = client.nextCommand(never);
    for (const event of [welcome(), form(2), { ...deal, step: 1 }, { ...deal, step: 2 }] as const) emit(event);
    emit({ kind: 'waiting', reason: 'nobody there' });
    assert.deepEqual([deals, waits], [[1, 2], ['nobody there']]);
    assert.equal((await first).command.kind, 'welcome');
    for (const kind of ['form', 'deal', 'deal']) assert.equal((await client.nextCommand(never)).command.kind, kind);
  });

  for (const [what, event] of [
    ['an abort', abort],
    ['the next generation', form(3)],
    ['another coordinator', welcome(EPOCH + 1)],
  ] as const)
    test(`${what} aborts earlier commands, also queued ones, but not itself`, async () => {
      const { client, emit } = make();
      emit(form(2));
      emit(deal);
      const begun = await client.nextCommand(never);
      assert.ok(!begun.signal.aborted);
      emit(event);
      assert.ok(begun.signal.aborted);
      assert.ok((await client.nextCommand(never)).signal.aborted, 'the deal that waited');
      const next = await client.nextCommand(never);
      assert.deepEqual([next.command.kind, next.signal.aborted], [event.kind, false]);
    });

  test('a save, a deal and a formed abort nothing', async () => {
    const { client, emit } = make();
    emit(form(2));
    const { signal } = await client.nextCommand(never);
    emit(deal);
    emit({ kind: 'save', epoch: EPOCH, generation: 2, step: 1, stateStep: 1, folder: '/f', writer: 0, numWriters: 1 });
    emit({ kind: 'finish', outcome: 'finished', reason: 'done' });
    assert.ok(!signal.aborted);
  });

  test('a wait for a sum ends with the sum, or with its signal', async () => {
    const { client, emit } = make();
    emit(form(2));
    const waiting = client.reduced(1, never);
    emit(reduced(1));
    assert.equal((await waiting).step, 1);
    const stop = new AbortController();
    const stopped = client.reduced(2, stop.signal);
    stop.abort();
    await assert.rejects(stopped, { code: 'ABORTED' });
  });

  test('a sum or failure of an earlier generation does not count for the next one', async () => {
    const { client, emit } = make();
    emit(form(2));
    emit(reduced(1));
    emit(failed(2));
    emit(form(3));
    emit(failed(2)); // late
    const waiting = client.reduced(5, never);
    emit(reduced(5));
    assert.equal((await waiting).step, 5);
    assert.equal(client.generationError, undefined);
  });

  test('a failed generation fails each of its waits with the same error', async () => {
    const { client, emit } = make();
    emit(form(2));
    emit(failed(2));
    await assert.rejects(client.reduced(1, never), { code: 'COLLECTIVE_TIMEOUT', message: 'of generation 2' });
    const error = client.generationError;
    await assert.rejects(client.copyState(0, tensors, never), (thrown) => thrown === error);
    emit(form(3));
    assert.equal(client.generationError, undefined);
  });

  test('a copy of the state is requested and awaited', async () => {
    const { client, emit, posted } = make();
    emit(form(2));
    const copying = client.copyState(7, tensors, never);
    assert.deepEqual(posted, [{ kind: 'copy-state', step: 7, tensors }]);
    emit({ kind: 'state-copied', generation: 2 });
    await copying;
  });

  test('an answer to another question is INTERNAL', async () => {
    const { client, emit } = make();
    emit(form(2));
    emit(reduced(1));
    await assert.rejects(client.copyState(0, tensors, never), { code: 'INTERNAL' });
    emit({ kind: 'state-copied', generation: 2 });
    await assert.rejects(client.reduced(1, never), { code: 'INTERNAL' });
    emit(reduced(3));
    await assert.rejects(client.reduced(4, never), { code: 'INTERNAL' });
  });

  for (const how of ['lost', 'failed', 'flooded'] as const)
    test(`a network thread that is ${how} ends every wait and every command with the reason`, async () => {
      const { client, emit, fail } = make();
      emit(form(2));
      const { signal } = await client.nextCommand(never);
      const waiting = client.nextCommand(never);
      const code = { lost: 'CONNECT_FAILED', failed: 'INTERNAL', flooded: 'SEND_OVERFLOW' }[how];
      if (how === 'lost') emit({ kind: 'lost', error: { code: 'CONNECT_FAILED', message: 'gone' } });
      if (how === 'failed') fail(new TrainerError('INTERNAL', 'the thread has thrown'));
      if (how === 'flooded') for (let step = 0; step <= 1_024; step++) emit({ ...deal, step });
      await assert.rejects(waiting, { code });
      assert.ok(signal.aborted && client.lost.aborted);
      await assert.rejects(client.nextCommand(never), { code });
      await assert.rejects(client.reduced(1, signal), { code: 'ABORTED' });
    });

  test('the caller’s signal ends a wait for commands', async () => {
    const { client } = make();
    const stop = new AbortController();
    const waiting = client.nextCommand(stop.signal);
    stop.abort();
    await assert.rejects(waiting, { code: 'ABORTED' });
  });

  test('leaving posts the reason and waits for the thread to end, within a deadline', async () => {
    const quick = make();
    const leaving = quick.client.leave('done');
    assert.deepEqual(quick.posted, [{ kind: 'leave', reason: 'done' }]);
    quick.exit();
    await leaving;
    assert.deepEqual([quick.isStopped(), quick.clock.numSleeping], [true, 0]);
    const slow = make();
    let hasLeft = false;
    const left = slow.client.leave('done').then(() => (hasLeft = true));
    await slow.clock.advance(1_999);
    assert.ok(!hasLeft);
    await slow.clock.advance(1);
    await left;
    assert.ok(slow.isStopped());
  });

  test('waits are renewed as long as nothing comes', async () => {
    const { client, emit, clock } = make();
    emit(form(2));
    const waiting = client.reduced(1, never);
    for (let minute = 0; minute < 5; minute++) await clock.advance(60_000);
    emit(reduced(1));
    assert.equal((await waiting).step, 1);
  });
});
