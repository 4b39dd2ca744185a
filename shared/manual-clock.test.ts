import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { ManualClock, rest } from './manual-clock.fixture.ts';

test('rest waits for immediates and file reads that follow each other, however many there are', async () => {
  const done: string[] = [];
  const chain = async (): Promise<void> => {
    for (let i = 0; i < 50; i++) await new Promise(setImmediate);
    done.push('immediates');
    for (let i = 0; i < 10; i++) await readFile(import.meta.filename);
    done.push('reads');
  };
  void chain();
  await rest();
  assert.deepEqual(done, ['immediates', 'reads']);
});

test('advance wakes the sleepers that are due, and waits for what they do', async () => {
  const clock = new ManualClock();
  const woken: number[] = [];
  for (const ms of [10, 20])
    void clock.sleep(ms).then(async () => {
      for (let i = 0; i < 50; i++) await new Promise(setImmediate);
      woken.push(ms);
    });
  await clock.advance(15);
  assert.deepEqual([woken, clock.numSleeping], [[10], 1]);
});
