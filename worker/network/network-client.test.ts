/** The compute thread's side of the link, with a link thread that the test plays. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { abort, deal, EPOCH, formOf, nobody, welcome } from './network-session.fixture.ts';
import type { LinkEvent, LinkRequest } from './network-messages.ts';
import { Link } from './network-client.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

const never = new AbortController().signal;
const tensors = { parameters: new Map<string, Float32Array>(), optimizerSlots: new Map<string, Float32Array>() };
const form = (generation: number): LinkEvent => formOf([nobody], 0, { generation });
const reduced = (step: number): LinkEvent => ({
  kind: 'reduced',
  step,
  sumOfSquares: 1,
  firstNonFiniteBytes: null,
  exposedMs: 0,
});
const failed = (generation: number): LinkEvent => {
  const error = { code: 'COLLECTIVE_TIMEOUT' as const, message: `of generation ${generation}` };
  return { kind: 'generation-failed', generation, error };
};

function make() {
  const posted: LinkRequest[] = [];
  const deals: number[] = [];
  const waits: string[] = [];
  let tell!: (event: LinkEvent) => void;
  let fail!: (error: TrainerError) => void;
  let exit!: () => void;
  let isStopped = false;
  const exited = new Promise<void>((resolve) => (exit = resolve));
  const clock = new ManualClock();
  const link = new Link({
    start: (onEvent, onFailed) => {
      [tell, fail] = [onEvent, onFailed];
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
  return { link, posted, deals, waits, tell, fail, exit, clock, isStopped: () => isStopped };
}

describe('link', { timeout: 10_000 }, () => {
  test('commands come in their order, deals are seen at once, and who waits is told', async () => {
    const { link, tell, deals, waits } = make();
    const first = link.nextCommand(never);
    for (const event of [welcome(), form(2), { ...deal, step: 1 }, { ...deal, step: 2 }] as const) tell(event);
    tell({ kind: 'waiting', reason: 'nobody there' });
    assert.deepEqual([deals, waits], [[1, 2], ['nobody there']]);
    assert.equal((await first).command.kind, 'welcome');
    for (const kind of ['form', 'deal', 'deal']) assert.equal((await link.nextCommand(never)).command.kind, kind);
  });

  for (const [what, event] of [
    ['an abort', abort],
    ['the next generation', form(3)],
    ['another coordinator', welcome(EPOCH + 1)],
  ] as const)
    test(`${what} calls off what was asked before, also what waits in the queue; itself it is not called off`, async () => {
      const { link, tell } = make();
      tell(form(2));
      tell(deal);
      const begun = await link.nextCommand(never);
      assert.ok(!begun.signal.aborted);
      tell(event);
      assert.ok(begun.signal.aborted);
      assert.ok((await link.nextCommand(never)).signal.aborted, 'the deal that waited');
      const next = await link.nextCommand(never);
      assert.deepEqual([next.command.kind, next.signal.aborted], [event.kind, false]);
    });

  test('a save, a deal and a formed call nothing off', async () => {
    const { link, tell } = make();
    tell(form(2));
    const { signal } = await link.nextCommand(never);
    tell(deal);
    tell({ kind: 'save', epoch: EPOCH, generation: 2, step: 1, stateStep: 1, folder: '/f', writer: 0, numWriters: 1 });
    tell({ kind: 'finish', reason: 'done' });
    assert.ok(!signal.aborted);
  });

  test('a sum is waited for, and called off by its signal', async () => {
    const { link, tell } = make();
    tell(form(2));
    const waiting = link.reduced(1, never);
    tell(reduced(1));
    assert.equal((await waiting).step, 1);
    const stop = new AbortController();
    const stopped = link.reduced(2, stop.signal);
    stop.abort();
    await assert.rejects(stopped, { code: 'ABORTED' });
  });

  test('a sum or a failure of the generation before is none of the next one', async () => {
    const { link, tell } = make();
    tell(form(2));
    tell(reduced(1));
    tell(failed(2));
    tell(form(3));
    tell(failed(2)); // late
    const waiting = link.reduced(5, never);
    tell(reduced(5));
    assert.equal((await waiting).step, 5);
    assert.equal(link.generationError, undefined);
  });

  test('a generation that breaks fails every wait of it with the same error', async () => {
    const { link, tell } = make();
    tell(form(2));
    tell(failed(2));
    await assert.rejects(link.reduced(1, never), { code: 'COLLECTIVE_TIMEOUT', message: 'of generation 2' });
    const error = link.generationError;
    await assert.rejects(link.copyState(0, tensors, never), (thrown) => thrown === error);
    tell(form(3));
    assert.equal(link.generationError, undefined);
  });

  test('a state is asked for and waited for', async () => {
    const { link, tell, posted } = make();
    tell(form(2));
    const copying = link.copyState(7, tensors, never);
    assert.deepEqual(posted, [{ kind: 'copy-state', step: 7, tensors }]);
    tell({ kind: 'state-copied', generation: 2 });
    await copying;
  });

  test('an answer to another question is INTERNAL', async () => {
    const { link, tell } = make();
    tell(form(2));
    tell(reduced(1));
    await assert.rejects(link.copyState(0, tensors, never), { code: 'INTERNAL' });
    tell({ kind: 'state-copied', generation: 2 });
    await assert.rejects(link.reduced(1, never), { code: 'INTERNAL' });
    tell(reduced(3));
    await assert.rejects(link.reduced(4, never), { code: 'INTERNAL' });
  });

  for (const how of ['lost', 'failed', 'flooded'] as const)
    test(`a link that is ${how} ends every wait and every command with the reason`, async () => {
      const { link, tell, fail } = make();
      tell(form(2));
      const { signal } = await link.nextCommand(never);
      const waiting = link.nextCommand(never);
      const code = { lost: 'CONNECT_FAILED', failed: 'INTERNAL', flooded: 'SEND_OVERFLOW' }[how];
      if (how === 'lost') tell({ kind: 'lost', error: { code: 'CONNECT_FAILED', message: 'gone' } });
      if (how === 'failed') fail(new TrainerError('INTERNAL', 'the thread has thrown'));
      if (how === 'flooded') for (let step = 0; step <= 1_024; step++) tell({ ...deal, step });
      await assert.rejects(waiting, { code });
      assert.ok(signal.aborted && link.lost.aborted);
      await assert.rejects(link.nextCommand(never), { code });
      await assert.rejects(link.reduced(1, signal), { code: 'ABORTED' });
    });

  test('its own signal ends a wait for commands', async () => {
    const { link } = make();
    const stop = new AbortController();
    const waiting = link.nextCommand(stop.signal);
    stop.abort();
    await assert.rejects(waiting, { code: 'ABORTED' });
  });

  test('leaving says why and waits for the thread to go, but not for ever', async () => {
    const quick = make();
    const leaving = quick.link.leave('done');
    assert.deepEqual(quick.posted, [{ kind: 'leave', reason: 'done' }]);
    quick.exit();
    await leaving;
    assert.deepEqual([quick.isStopped(), quick.clock.numSleeping], [true, 0]);
    const slow = make();
    let hasLeft = false;
    const left = slow.link.leave('done').then(() => (hasLeft = true));
    await slow.clock.advance(1_999);
    assert.ok(!hasLeft);
    await slow.clock.advance(1);
    await left;
    assert.ok(slow.isStopped());
  });

  test('waits are renewed as long as nothing comes', async () => {
    const { link, tell, clock } = make();
    tell(form(2));
    const waiting = link.reduced(1, never);
    for (let minute = 0; minute < 5; minute++) await clock.advance(60_000);
    tell(reduced(1));
    assert.equal((await waiting).step, 1);
  });
});
