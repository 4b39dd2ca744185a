import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { abortable } from './abort.ts';

const never = new AbortController().signal;
const forever = new Promise<string>(() => undefined);

describe('abortable', () => {
  test('gives the outcome of the work, good or bad', async () => {
    assert.equal(await abortable(Promise.resolve('done'), never, 'waiting'), 'done');
    await assert.rejects(abortable(Promise.reject(new RangeError('no')), never, 'waiting'), RangeError);
  });

  test('is ABORTED when the signal fires first or has fired, and says what was called off', async () => {
    const stop = new AbortController();
    const expected = { code: 'ABORTED', message: 'waiting was called off' };
    const waiting = assert.rejects(abortable(forever, stop.signal, 'waiting'), expected);
    stop.abort();
    await waiting;
    await assert.rejects(abortable(forever, stop.signal, 'waiting'), expected);
  });

  test('work that fails after the signal is nobody’s unhandled rejection', async () => {
    let fail!: (error: Error) => void;
    const work = new Promise<never>((_, reject) => (fail = reject));
    await assert.rejects(abortable(work, AbortSignal.abort(), 'waiting'), { code: 'ABORTED' });
    fail(new RangeError('too late'));
    await new Promise(setImmediate);
  });
});
