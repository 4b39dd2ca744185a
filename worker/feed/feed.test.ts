import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { createBatchArrays, fillRow, type BatchArrays } from '../../mixture/feed/batch.ts';
import { openPreparedMixture, type PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { encodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { prepareMixture } from '../../mixture/prepare/prepare-mixture.ts';
import { writeSmallMixture } from '../../mixture/prepare/small-mixture.fixture.ts';
import { Thread } from '../../shared/thread/thread.ts';
import { createBatchRing } from './batch-ring.ts';
import type { FeedData, FeedReply, FeedRequest, LaneRows } from './feed-messages.ts';
import { Feed, type FeedInit } from './feed.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-worker-feed-'));
const preparedFolder = join(root, 'prepared');
const featureLengths = { inputs: 64, targets: 32 };
const shape = { numRows: 2, inputsLength: 64, targetsLength: 32 };
const SEED = 11;
const DEADLINE = { timeout: 240_000 };
const never = new AbortController().signal;
let mixture: PreparedMixture;

before(async () => {
  const sources = writeSmallMixture(join(root, 'sources'), 20);
  await prepareMixture({ mixture: sources, outDir: preparedFolder, featureLengths });
  mixture = await openPreparedMixture(preparedFolder);
});
after(() => {
  mixture.close();
  rmSync(root, { recursive: true });
});

function startFeed(t: TestContext, init: Partial<FeedInit> = {}): Feed {
  const data = { preparedFolder, mixtureHash: mixture.hash, seed: SEED, shape, microbatchesPerLane: 2, numSlots: 3 };
  const feed = new Feed({ ...data, ...init });
  t.after(() => feed.stop());
  return feed;
}

/** Four rows of one example each, for lane `lane` of a deal; `salt` makes other ones. */
const rowsOf = (lane: number, salt = 0): PlannedRow[] =>
  [0, 1, 2, 3].map((row) => {
    const task = (lane + row) % 5;
    return [{ task, index: (4 * lane + row + salt) % mixture.tasks[task]!.numExamples, epoch: salt }];
  });
const lanesOf = (lanes: number[], salt = 0): LaneRows[] =>
  lanes.map((lane) => ({ lane, rows: encodeRows(rowsOf(lane, salt)) }));

/** What the thread should have put together, made here. */
async function expectedBatch(
  lane: number,
  microbatch: number,
  salt = 0,
): Promise<{ arrays: BatchArrays; inputTokens: number }> {
  const arrays = createBatchArrays(2, 64, 32);
  const rows = rowsOf(lane, salt).slice(2 * microbatch, 2 * microbatch + 2);
  let inputTokens = 0;
  for (const [row, planned] of rows.entries()) inputTokens += await fillRow(arrays, row, planned, mixture, SEED);
  return { arrays, inputTokens };
}

const copyOf = (arrays: BatchArrays) =>
  Object.fromEntries(
    Object.entries(arrays).map(([name, value]) => [
      name,
      typeof value === 'number' ? value : [...(value as Int32Array)],
    ]),
  );

async function takeAll(feed: Feed, step: number, lanes: number[], salt = 0): Promise<void> {
  for (const lane of lanes)
    for (const microbatch of [0, 1]) {
      const batch = await feed.next({ step, lane, microbatch }, never);
      const { arrays, inputTokens } = await expectedBatch(lane, microbatch, salt);
      assert.deepEqual(copyOf(batch.arrays), copyOf(arrays), `step ${step} lane ${lane} microbatch ${microbatch}`);
      assert.equal(batch.inputTokens, inputTokens);
      feed.release(batch);
    }
}

describe('feed', DEADLINE, () => {
  test('hands over the microbatches of all deals in their order, with the examples that were dealt', async (t) => {
    const feed = startFeed(t);
    feed.deal(1, lanesOf([2, 3]));
    feed.deal(2, lanesOf([2, 3], 5));
    assert.deepEqual(await feed.opened, mixture.taskNames);
    await takeAll(feed, 1, [2, 3]);
    await takeAll(feed, 2, [2, 3], 5);
  });

  test('fills no more slots than there are, and again one that was given back', async (t) => {
    const replies: FeedReply[] = [];
    const ring = createBatchRing(shape, 2);
    const data = {
      preparedFolder,
      mixtureHash: mixture.hash,
      seed: SEED,
      shape,
      microbatchesPerLane: 2,
      numSlots: 2,
      access: {},
    };
    let waiting: { kind: string; count: number; resolve: () => void } | undefined;
    const thread = new Thread<FeedRequest, FeedReply>({
      module: 'worker/feed/feed-thread.ts',
      data: { ...data, ring } satisfies FeedData,
      onFailed: (error) => assert.fail(error),
      onMessage: (reply) => {
        replies.push(reply);
        if (waiting !== undefined && replies.filter(({ kind }) => kind === waiting?.kind).length >= waiting.count)
          waiting.resolve();
      },
    });
    t.after(() => thread.stop());
    const seen = (kind: FeedReply['kind'], count: number) =>
      new Promise<void>((resolve) => {
        waiting = { kind, count, resolve };
      });
    thread.post({ kind: 'deal', step: 1, lanes: lanesOf([0, 1]), numDrops: 0 });
    await seen('batch', 2);
    thread.post({ kind: 'free', slot: 1 });
    await seen('batch', 3);
    // A deal that cannot be taken: its answer comes after everything that was sent before.
    thread.post({ kind: 'deal', step: 2, lanes: [{ lane: 0, rows: encodeRows([]) }], numDrops: 0 });
    await seen('failed', 1);
    assert.deepEqual(
      replies.map((reply) => (reply.kind === 'batch' ? [reply.lane, reply.microbatch, reply.slot] : reply.kind)),
      ['opened', [0, 0, 0], [0, 1, 1], [1, 0, 1], 'failed'],
    );
    thread.post({ kind: 'free', slot: 0 });
    await thread.stop();
    assert.equal(replies.length, 5, 'nothing comes after a failure');
  });

  test('a microbatch from before a drop never counts as one from after it, even when it comes late', async (t) => {
    const feed = startFeed(t);
    await feed.opened;
    for (const salt of [1, 2, 3]) {
      feed.deal(1, lanesOf([0, 1], salt));
      await feed.drop(); // the thread has filled slots for the deal and has not seen the drop yet
      feed.deal(1, lanesOf([0, 1], salt + 10));
      await takeAll(feed, 1, [0, 1], salt + 10);
    }
  });

  test('a drop releases ready microbatches, and those in use can be released after it', async (t) => {
    const feed = startFeed(t);
    feed.deal(1, lanesOf([0, 1]));
    const first = await feed.next({ step: 1, lane: 0, microbatch: 0 }, never);
    await feed.drop();
    feed.release(first);
    feed.deal(2, lanesOf([0, 1], 3));
    await takeAll(feed, 2, [0, 1], 3);
  });

  test('a microbatch that is not the expected one is refused', async (t) => {
    const feed = startFeed(t);
    feed.deal(1, lanesOf([0]));
    await assert.rejects(feed.next({ step: 1, lane: 1, microbatch: 0 }, never), {
      code: 'INTERNAL',
      message: /expected step 1 lane 1 microbatch 0, got step 1 lane 0 microbatch 0/u,
    });
  });

  test('another mixture than the run was started with is MIXTURE_MISMATCH, when opened and when asked for a batch', async (t) => {
    const feed = startFeed(t, { mixtureHash: 'ab'.repeat(32) });
    await assert.rejects(feed.opened, { code: 'MIXTURE_MISMATCH' });
    for (const time of ['first', 'second'])
      await assert.rejects(feed.next({ step: 1, lane: 0, microbatch: 0 }, never), { code: 'MIXTURE_MISMATCH' }, time);
  });

  const tokenShards = (folder: string) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.tokens'))
      .map((name) => join(folder, name));

  test('a shard with a flipped bit is SHARD_CORRUPT before anything is trained on', async (t) => {
    const folder = join(root, 'flipped');
    cpSync(preparedFolder, folder, { recursive: true });
    for (const path of tokenShards(folder)) {
      const bytes = readFileSync(path);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(path, bytes);
    }
    const feed = startFeed(t, { preparedFolder: folder });
    feed.deal(1, lanesOf([0]));
    await assert.rejects(takeAll(feed, 1, [0]), {
      code: 'SHARD_CORRUPT',
      message: /^feed of step 1 lane 0 microbatch 0: .*shard-00000\.tokens: expected bytes 0 to \d+ with the checksum/u,
    });
  });

  test('a shard cut off later fails the microbatch that needs it, by name; earlier ones come', async (t) => {
    const folder = join(root, 'cut');
    cpSync(preparedFolder, folder, { recursive: true });
    const feed = startFeed(t, { preparedFolder: folder, numSlots: 1 });
    feed.deal(4, lanesOf([0]));
    const first = await feed.next({ step: 4, lane: 0, microbatch: 0 }, never);
    for (const path of tokenShards(folder)) truncateSync(path, 0);
    feed.release(first);
    for (const time of ['first', 'second'])
      await assert.rejects(
        feed.next({ step: 4, lane: 0, microbatch: 1 }, never),
        {
          code: 'SHARD_CORRUPT',
          message: /^feed of step 4 lane 0 microbatch 1: /u,
        },
        time,
      );
  });

  test('a deal with another number of rows, or bytes that are no rows, is MESSAGE_INVALID', async (t) => {
    for (const rows of [encodeRows(rowsOf(0).slice(1)), Uint8Array.of(200)]) {
      const feed = startFeed(t);
      await feed.opened;
      feed.deal(1, [{ lane: 0, rows }]);
      await assert.rejects(feed.next({ step: 1, lane: 0, microbatch: 0 }, never), { code: 'MESSAGE_INVALID' });
    }
  });

  test('a wait for a batch ends with its signal, and with the feed', async (t) => {
    const feed = startFeed(t);
    const stop = new AbortController();
    const place = { step: 1, lane: 0, microbatch: 0 };
    const waiting = assert.rejects(feed.next(place, stop.signal), { code: 'ABORTED' });
    stop.abort();
    await waiting;
    const last = assert.rejects(feed.next(place, never), { code: 'ABORTED', message: /stopped/u });
    await feed.stop();
    await last;
  });
});
