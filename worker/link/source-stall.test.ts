import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SourceStall } from './source-stall.ts';

test('a stall is told with the time it has lasted by now, until the source answers again', () => {
  const stall = new SourceStall();
  assert.deepEqual(stall.read(5), {});
  stall.tell(1_000, { reason: '503', forMs: 3_000 });
  assert.deepEqual(stall.read(1_000), { stall: { reason: '503', forMs: 3_000 } });
  assert.deepEqual(stall.read(4_500), { stall: { reason: '503', forMs: 6_500 } });
  stall.tell(5_000, null);
  assert.deepEqual(stall.read(5_000), {});
});
