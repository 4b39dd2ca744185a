/** The real feed thread over a mixture on a real S3 server, and over a web server with delays. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { openPreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { startRemoteMixture, type RemoteMixture } from '../../mixture/feed/remote-mixture.fixture.ts';
import type { SourceNotice } from '../../mixture/feed/source-watch.ts';
import { Planner } from '../../mixture/plan/planner.ts';
import { encodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { computeRates, PAPER_RATES } from '../../mixture/plan/rates.ts';
import { RandomStream } from '../../shared/random.ts';
import { serve, startFaultyServer } from '../../shared/storage/faulty-server.fixture.ts';
import { sha256Of } from '../../mixture/prepare/prepared-format.ts';
import { Feed, type FeedInit } from './feed.ts';

const SEED = 3;
const NUM_STEPS = 6;
const LANES = [0, 1];
const shape = { numRows: 2, inputsLength: 64, targetsLength: 32 };
const never = new AbortController().signal;
let remote: RemoteMixture;
let rows: PlannedRow[];
let expected: string[];

before(async () => {
  remote = await startRemoteMixture({ inputs: 64, targets: 32 });
  const mixture = await openPreparedMixture(remote.folder);
  const shares = computeRates(mixture.sizes, PAPER_RATES).map(({ share }) => share);
  const plan = { seed: SEED, inputsLimit: 64, targetsLimit: 32, windowDraws: 256, shares };
  rows = new Planner(plan, mixture.tasks).nextRows(NUM_STEPS * LANES.length * 4);
  mixture.close();
  expected = await takeAll(startFeed({ preparedFolder: remote.folder }));
});
after(() => remote.close());

let numCaches = 0;
function startFeed(init: Partial<FeedInit> = {}): Feed {
  return new Feed({
    preparedFolder: remote.location,
    mixtureHash: remote.hash,
    seed: SEED,
    shape,
    microbatchesPerLane: 2,
    numSlots: 3,
    access: {
      cacheFolder: join(remote.root, `feed-cache-${numCaches++}`),
      firstWaitMs: 5,
      maxWaitMs: 30,
      sourceTimeoutMs: 10_000,
      stalledAfterMs: 80,
    },
    ...init,
  });
}

/** Digests of all microbatches of the plan, in order. @param at called before each one is taken */
async function takeAll(feed: Feed, at: (number: number) => Promise<void> = () => Promise.resolve()): Promise<string[]> {
  const digests: string[] = [];
  const next = rows.values();
  const take = (count: number) => Array.from({ length: count }, () => next.next().value!);
  try {
    for (let step = 1; step <= NUM_STEPS; step++)
      feed.deal(
        step,
        LANES.map((lane) => ({ lane, rows: encodeRows(take(4)) })),
      );
    for (let step = 1; step <= NUM_STEPS; step++)
      for (const lane of LANES)
        for (const microbatch of [0, 1]) {
          await at(digests.length);
          const batch = await feed.next({ step, lane, microbatch }, never);
          const arrays = Object.values(batch.arrays).filter((values) => typeof values !== 'number') as Int32Array[];
          digests.push(sha256Of(Buffer.concat(arrays.map((values) => new Uint8Array(new Int32Array(values).buffer)))));
          feed.release(batch);
        }
  } finally {
    await feed.stop();
  }
  return digests;
}

describe('the feed from afar', { timeout: 240_000 }, () => {
  test('S3 down in the middle: the feed waits, reports it, continues, and skips nothing', async () => {
    const told: SourceNotice[] = [];
    let heard: (() => void) | undefined;
    const feed = startFeed({
      onSource: (notice) => {
        told.push(notice);
        heard?.();
      },
    });
    const failedAttempt = () => told.some((notice) => notice.kind === 'stalled' && notice.attempts > 1);
    const digests = await takeAll(feed, async (number) => {
      if (number !== 9) return;
      await remote.server.stop();
      const down = new Promise<void>((resolve) => {
        heard = () => failedAttempt() && resolve();
      });
      void down.then(() => remote.server.start());
    });
    assert.deepEqual(digests, expected);
    assert.ok(failedAttempt(), 'the source was down when it was needed');
    assert.equal(told.at(-1)?.kind, 'answers');
  });

  test('the bytes do not depend on how far ahead is read, nor on delays', async (t: TestContext) => {
    const random = new RandomStream([17]);
    const server = await startFaultyServer((request, response) => {
      const bytes = readFileSync(join(remote.folder, request.url!.slice('/m/'.length)));
      setTimeout(() => serve(bytes)(request, response), random.nextBelow(15));
    });
    t.after(() => server.close());
    for (const numSlots of [1, 2, 7])
      assert.deepEqual(await takeAll(startFeed({ preparedFolder: `${server.url}/m`, numSlots })), expected);
    for (const numSlots of [1, 8])
      assert.deepEqual(await takeAll(startFeed({ preparedFolder: remote.folder, numSlots })), expected);
  });

  test('a source that never answers is STORAGE_UNAVAILABLE with the microbatch that needed it', async (t: TestContext) => {
    const feed = startFeed({
      access: {
        cacheFolder: join(remote.root, 'feed-cache-0'),
        firstWaitMs: 5,
        maxWaitMs: 20,
        sourceTimeoutMs: 1_000,
        stalledAfterMs: 30,
      },
    });
    await feed.opened;
    await remote.server.stop();
    t.after(() => remote.server.start());
    await assert.rejects(takeAll(feed), {
      code: 'STORAGE_UNAVAILABLE',
      message: /^feed of step 1 lane 0 microbatch 0: reading s3:\/\/data\/.* no success after/u,
    });
  });
});
