import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Clock } from '../../shared/clock.ts';
import { SourceWatch, type SourceNotice } from './source-watch.ts';

/** A clock that stands until it is moved; sleepers wake when their time has come. */
class HandClock implements Clock {
  #nowMs = 0;
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];
  monotonicMs = () => this.#nowMs;
  wallMs = () => this.#nowMs;

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => this.#sleepers.push({ atMs: this.#nowMs + ms, wake }));
  }

  async move(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 50) {
      this.#nowMs += 50;
      const due = this.#sleepers.filter(({ atMs }) => atMs <= this.#nowMs);
      this.#sleepers = this.#sleepers.filter(({ atMs }) => atMs > this.#nowMs);
      for (const { wake } of due) wake();
      await new Promise(setImmediate);
    }
  }
}

function watchOf(): { clock: HandClock; watch: SourceWatch; told: SourceNotice[] } {
  const clock = new HandClock();
  const told: SourceNotice[] = [];
  return { clock, told, watch: new SourceWatch({ clock, onNotice: (notice) => told.push(notice) }) };
}

describe('a source that is watched', () => {
  test('is told when it does not answer, when the reason changes, every ten seconds, and when it goes on after 21 s', async () => {
    const { clock, watch, told } = watchOf();
    const read = watch.begin('s3://b/shard');
    await clock.move(4_000);
    watch.retried({ reason: 'the connection broke: ECONNREFUSED' });
    await clock.move(8_000);
    watch.retried({ reason: 'the connection broke: ECONNREFUSED' });
    await clock.move(9_000);
    watch.end(read);
    await clock.move(5_000);
    const place = 's3://b/shard';
    const reason = 'the connection broke: ECONNREFUSED';
    assert.deepEqual(told, [
      { kind: 'stalled', place, forMs: 3_000, attempts: 0, reason: 'no answer yet' },
      { kind: 'stalled', place, forMs: 4_000, attempts: 1, reason },
      { kind: 'stalled', place, forMs: 14_000, attempts: 2, reason },
      { kind: 'answers', forMs: 21_000, attempts: 2 },
    ]);
  });

  test('is not told while every read ends in time, whatever fails in between', async () => {
    const { clock, watch, told } = watchOf();
    for (let i = 0; i < 20; i++) {
      const [first, second] = [watch.begin('a'), watch.begin('b')];
      watch.retried({ reason: '503' });
      await clock.move(1_500);
      watch.end(first);
      await clock.move(1_000);
      watch.end(second);
    }
    assert.deepEqual(told, []);
  });

  test('is stalled as long as one read is, though others end, and failures of before are not counted', async () => {
    const { clock, watch, told } = watchOf();
    const before = watch.begin('before');
    watch.retried({ reason: '500' });
    await clock.move(1_000);
    const slow = watch.begin('slow');
    watch.end(before);
    await clock.move(4_000);
    const quick = watch.begin('quick');
    watch.end(quick);
    assert.deepEqual(told, [{ kind: 'stalled', place: 'slow', forMs: 3_000, attempts: 0, reason: 'no answer yet' }]);
    const next = watch.begin('next');
    await clock.move(1_000);
    watch.end(slow);
    assert.deepEqual(told.slice(1), [{ kind: 'answers', forMs: 5_000, attempts: 0 }]);
    watch.end(next);
  });
});
