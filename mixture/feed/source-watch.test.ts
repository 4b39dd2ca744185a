import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import { SourceWatch, type SourceNotice } from './source-watch.ts';

/** Interval at which a watch checks its reads, ms. Time moves in such steps. */
const TICK_MS = 250;

/** Moves the clock in steps, so that no check is late. */
async function move(clock: ManualClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= TICK_MS) await clock.advance(TICK_MS);
}

function watchOf(): { clock: ManualClock; watch: SourceWatch; notices: SourceNotice[] } {
  const clock = new ManualClock();
  const notices: SourceNotice[] = [];
  return { clock, notices, watch: new SourceWatch({ clock, onNotice: (notice) => notices.push(notice) }) };
}

describe('a source that is watched', () => {
  test('is reported when it does not answer, when the reason changes, every ten seconds, and when it answers after 21 s', async () => {
    const { clock, watch, notices } = watchOf();
    const read = watch.begin('s3://b/shard');
    await move(clock, 4_000);
    watch.retried({ reason: 'the connection broke: ECONNREFUSED' });
    await move(clock, 8_000);
    watch.retried({ reason: 'the connection broke: ECONNREFUSED' });
    await move(clock, 9_000);
    watch.end(read);
    await move(clock, 5_000);
    const place = 's3://b/shard';
    const reason = 'the connection broke: ECONNREFUSED';
    assert.deepEqual(notices, [
      { kind: 'stalled', place, forMs: 3_000, attempts: 0, reason: 'no answer yet' },
      { kind: 'stalled', place, forMs: 4_000, attempts: 1, reason },
      { kind: 'stalled', place, forMs: 14_000, attempts: 2, reason },
      { kind: 'answers', forMs: 21_000, attempts: 2 },
    ]);
  });

  test('is not reported while every read ends in time, also with failures in between', async () => {
    const { clock, watch, notices } = watchOf();
    for (let i = 0; i < 20; i++) {
      const [first, second] = [watch.begin('a'), watch.begin('b')];
      watch.retried({ reason: '503' });
      await move(clock, 1_500);
      watch.end(first);
      await move(clock, 1_000);
      watch.end(second);
    }
    assert.deepEqual(notices, []);
  });

  test('is stalled while one read is, even if others end; earlier failures do not count', async () => {
    const { clock, watch, notices } = watchOf();
    const before = watch.begin('before');
    watch.retried({ reason: '500' });
    await move(clock, 1_000);
    const slow = watch.begin('slow');
    watch.end(before);
    await move(clock, 4_000);
    const quick = watch.begin('quick');
    watch.end(quick);
    assert.deepEqual(notices, [{ kind: 'stalled', place: 'slow', forMs: 3_000, attempts: 0, reason: 'no answer yet' }]);
    const next = watch.begin('next');
    await move(clock, 1_000);
    watch.end(slow);
    assert.deepEqual(notices.slice(1), [{ kind: 'answers', forMs: 5_000, attempts: 0 }]);
    watch.end(next);
  });
});
