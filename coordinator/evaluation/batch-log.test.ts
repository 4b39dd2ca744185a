import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, test } from 'node:test';
import type { BatchResult } from '../../evaluation/batch-messages.ts';
import { BatchLog, type PartOfPlan } from './batch-log.ts';

const score = (n: number): BatchResult => ({ kind: 'score', losses: [n / 3, 1e-300 * n], numRight: [n, 0] });
const decode = (n: number): BatchResult => ({ kind: 'decode', outputs: [[{ ids: [n, 1], score: -n / 7 }]] });
const PARTS: readonly PartOfPlan[] = [
  { label: 'a.score', key: { set: 'a', kind: 'score' }, batchSizes: [2, 2, 2] },
  { label: 'a.decode', key: { set: 'a', kind: 'decode', decoding: { method: 'greedy' } }, batchSizes: [1] },
];

describe('results of batches on disk', () => {
  let folder: string;
  beforeEach((t) => {
    folder = mkdtempSync(join(tmpdir(), 'exmix-batches-'));
    (t as { after?: (end: () => void) => void }).after?.(() => rmSync(folder, { recursive: true }));
  });

  /** All results, by an engine. */
  async function fill(engine: string, parts = PARTS): Promise<BatchLog> {
    const log = await BatchLog.open(folder, parts);
    for (const number of await log.begin(engine)) await log.add(number, number === 3 ? decode(number) : score(number));
    await log.close();
    return log;
  }

  test('what was added in any order is there again, bit by bit', async () => {
    const log = await BatchLog.open(folder, PARTS);
    assert.deepEqual([await log.begin('wasm 1'), log.finishedBy], [[0, 1, 2, 3], undefined]);
    for (const number of [3, 1]) await log.add(number, number === 3 ? decode(3) : score(number));
    await log.close();
    const again = await BatchLog.open(folder, PARTS);
    assert.equal(again.numDone, 2);
    assert.deepEqual(await again.begin('wasm 1'), [0, 2]);
    for (const number of [2, 0]) await again.add(number, score(number));
    await again.close();
    const finished = await BatchLog.open(folder, PARTS);
    assert.equal(finished.finishedBy, 'wasm 1');
    assert.deepEqual(finished.results(), [score(0), score(1), score(2), decode(3)]);
  });

  test('a line without its end is cut off, and its batch is missing', async () => {
    await fill('wasm 1');
    const [file] = readdirSync(folder).filter((name) => name.startsWith('a.score'));
    const path = join(folder, file!);
    truncateSync(path, readFileSync(path).length - 5);
    const log = await BatchLog.open(folder, PARTS);
    assert.equal(log.finishedBy, undefined);
    assert.deepEqual(await log.begin('wasm 1'), [2]);
    await log.add(2, score(2));
    await log.close();
    assert.equal((await BatchLog.open(folder, PARTS)).finishedBy, 'wasm 1');
  });

  test('results of another engine are dropped, in all parts', async () => {
    await fill('wasm 1');
    const log = await BatchLog.open(folder, PARTS);
    assert.deepEqual(await log.begin('native 2'), [0, 1, 2, 3]);
    await log.close();
    assert.equal((await BatchLog.open(folder, PARTS)).numDone, 0);
  });

  test('results of another key stay beside, and are there when they are asked for again', async () => {
    await fill('wasm 1');
    const beams = [PARTS[0]!, { ...PARTS[1]!, key: { set: 'a', kind: 'decode', decoding: { method: 'beam' } } }];
    const log = await BatchLog.open(folder, beams);
    assert.deepEqual(await log.begin('wasm 1'), [3]);
    await log.close();
    assert.equal((await BatchLog.open(folder, PARTS)).finishedBy, 'wasm 1');
  });

  test('a file that exmix did not write is refused with its line', async () => {
    await fill('wasm 1');
    const [file] = readdirSync(folder).filter((name) => name.startsWith('a.score'));
    const path = join(folder, file!);
    appendFileSync(path, '{"batch":0,"result":{"kind":"score","losses":[1],"numRight":[1]}}\n');
    await assert.rejects(BatchLog.open(folder, PARTS), { code: 'PATH_UNUSABLE', message: /:5: expected results/u });
    writeFileSync(path, 'something\n');
    await assert.rejects(BatchLog.open(folder, PARTS), { code: 'PATH_UNUSABLE', message: /:1: expected results/u });
  });
});
