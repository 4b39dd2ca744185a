import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { abortable, throwIfAborted, waitAtMost, withDeadline } from './abort.ts';
import { TrainerError } from './errors.ts';
import { ManualClock } from './manual-clock.fixture.ts';

const never = new AbortController().signal;
const forever = new Promise<string>(() => undefined);

describe('abortable', () => {
  test('gives the outcome of the work, good or bad', async () => {
    assert.equal(await abortable(Promise.resolve('done'), never, 'waiting'), 'done');
    await assert.rejects(abortable(Promise.reject(new RangeError('no')), never, 'waiting'), RangeError);
  });

  test('is ABORTED if the signal fires first or has fired, and names the work', async () => {
    const stop = new AbortController();
    const expected = { code: 'ABORTED', message: 'waiting was aborted' };
    const waiting = assert.rejects(abortable(forever, stop.signal, 'waiting'), expected);
    stop.abort();
    await waiting;
    await assert.rejects(abortable(forever, stop.signal, 'waiting'), expected);
  });

  test('a failure of the work after the signal is no unhandled rejection', async () => {
    let fail!: (error: Error) => void;
    const work = new Promise<never>((_, reject) => (fail = reject));
    await assert.rejects(abortable(work, AbortSignal.abort(), 'waiting'), { code: 'ABORTED' });
    fail(new RangeError('too late'));
    await new Promise(setImmediate);
  });
});

test('throwIfAborted is ABORTED once the signal has fired, with its reason as cause', () => {
  throwIfAborted(undefined, 'reading');
  throwIfAborted(never, 'reading');
  const reason = new RangeError('why');
  assert.throws(() => throwIfAborted(AbortSignal.abort(reason), 'reading'), {
    code: 'ABORTED',
    message: 'reading was aborted',
    cause: reason,
  });
});

describe('withDeadline', () => {
  const onLate = (): TrainerError => new TrainerError('CONNECT_FAILED', 'too late');
  const start = (signal?: AbortSignal) => {
    const clock = new ManualClock();
    return { clock, deadline: { clock, ms: 100, onLate, doing: 'the work', signal } };
  };

  test('gives the outcome of the work, good or bad, and lets its clock and its signal go', async () => {
    const { clock, deadline } = start(never);
    let given: AbortSignal | undefined;
    const work = (signal: AbortSignal): Promise<string> => {
      given = signal;
      return Promise.resolve('done');
    };
    assert.equal(await withDeadline(work, deadline), 'done');
    assert.ok(given?.aborted);
    await assert.rejects(
      withDeadline(() => Promise.reject(new RangeError('no')), deadline),
      RangeError,
    );
    const broken = (): Promise<string> => {
      throw new RangeError('at once');
    };
    await assert.rejects(withDeadline(broken, deadline), RangeError);
    assert.equal(clock.numSleeping, 0);
  });

  test('is late at its deadline, not before, and the signal of the work fires with that error', async () => {
    const { clock, deadline } = start();
    let reason: unknown;
    let isOver = false;
    const work = (signal: AbortSignal): Promise<string> => {
      signal.addEventListener('abort', () => void (reason = signal.reason));
      return forever;
    };
    const waiting = assert
      .rejects(withDeadline(work, deadline), { code: 'CONNECT_FAILED' })
      .then(() => (isOver = true));
    await clock.advance(99);
    assert.equal(isOver, false);
    await clock.advance(1);
    await waiting;
    assert.equal((reason as TrainerError).message, 'too late');
  });

  test('is ABORTED if its signal fires first; if it has fired, the work does not begin', async () => {
    const stop = new AbortController();
    const { clock, deadline } = start(stop.signal);
    let numBegun = 0;
    const work = (): Promise<string> => {
      numBegun += 1;
      return forever;
    };
    const expected = { code: 'ABORTED', message: 'the work was aborted' };
    const waiting = assert.rejects(withDeadline(work, deadline), expected);
    stop.abort();
    await waiting;
    await assert.rejects(withDeadline(work, deadline), expected);
    assert.deepEqual([numBegun, clock.numSleeping], [1, 0]);
  });
});

test('waitAtMost ends with the work, good or bad, or after the time, and leaves no timer', async () => {
  const clock = new ManualClock();
  assert.equal(await waitAtMost(Promise.resolve(), 100, clock), true);
  assert.equal(await waitAtMost(Promise.reject(new RangeError('no')), 100, clock), true);
  assert.equal(clock.numSleeping, 0);
  let hasEnded: boolean | undefined;
  const waiting = waitAtMost(forever, 100, clock).then((ended) => (hasEnded = ended));
  await clock.advance(99);
  assert.equal(hasEnded, undefined);
  await clock.advance(1);
  await waiting;
  assert.equal(hasEnded, false);
});
