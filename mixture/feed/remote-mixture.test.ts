/** Reading a prepared mixture from a real S3 server and from faulty web servers. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { sha256Of } from '../prepare/prepared-format.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import { startFaultyServer, serve, answer } from '../../shared/storage/faulty-server.fixture.ts';
import { openPreparedMixture, type PreparedAccess, type PreparedMixture } from './prepared-mixture.ts';
import { keysOf, startRemoteMixture, type RemoteMixture } from './remote-mixture.fixture.ts';
import type { SourceNotice } from './source-watch.ts';

let remote: RemoteMixture;
before(async () => {
  remote = await startRemoteMixture({ inputs: 64, targets: 32 });
});
after(() => remote.close());

let numCaches = 0;
const newCache = () => join(remote.root, `cache-${numCaches++}`);
const quick = { firstWaitMs: 5, maxWaitMs: 20, sourceTimeoutMs: 5_000 };

async function openRemote(t: TestContext, location: string, access: PreparedAccess = {}): Promise<PreparedMixture> {
  const mixture = await openPreparedMixture(location, { access: { ...quick, cacheFolder: newCache(), ...access } });
  t.after(() => mixture.close());
  return mixture;
}

/** Every 97th example of every task. */
async function readSome(mixture: PreparedMixture): Promise<number[][]> {
  const reads = mixture.tasks.flatMap((task) =>
    Array.from({ length: Math.ceil(task.numExamples / 97) }, (_, i) => task.readTokens(97 * i)),
  );
  return (await Promise.all(reads)).map((tokens) => [...tokens]);
}

/** Overwrites an object while the test runs. */
async function replace(t: TestContext, key: string, bytes: Uint8Array): Promise<void> {
  const storage = openStorage(remote.location);
  await storage.put(key, bytes);
  t.after(() => storage.put(key, readFileSync(join(remote.folder, key))));
}

const firstKey = (end: string) => keysOf(remote.folder).find((key) => key.startsWith('long/') && key.endsWith(end))!;
const flipped = (key: string, at: number) => {
  const bytes = readFileSync(join(remote.folder, key));
  bytes[at]! ^= 1;
  return bytes;
};

describe('a prepared mixture on S3', { timeout: 240_000 }, () => {
  test('has the hash, the lengths and the tokens of the local mixture', async (t) => {
    const far = await openRemote(t, remote.location);
    const near = await openPreparedMixture(remote.folder);
    assert.equal(far.hash, near.hash);
    assert.deepEqual(far.sizes, near.sizes);
    assert.deepEqual(await readSome(far), await readSome(near));
    near.close();
  });

  test('stores manifests, indexes and checksums on local disk by their hash, and replaces a damaged copy', async (t) => {
    const cacheFolder = newCache();
    const expected = await readSome(await openRemote(t, remote.location, { cacheFolder }));
    const known = keysOf(remote.folder).filter((key) => key !== 'mixture.json' && !key.endsWith('.tokens'));
    const copies = known.map((key) => {
      const hash = sha256Of(readFileSync(join(remote.folder, key)));
      return join(cacheFolder, hash.slice(0, 2), hash);
    });
    for (const copy of copies) assert.ok(existsSync(copy), copy);
    const contents = copies.map((copy) => readFileSync(copy));
    for (const copy of copies) writeFileSync(copy, 'damaged');
    assert.deepEqual(await readSome(await openRemote(t, remote.location, { cacheFolder })), expected);
    assert.deepEqual(
      copies.map((copy) => readFileSync(copy)),
      contents,
    );
  });

  for (const end of ['manifest.json', '.index', '.crc', '.tokens'])
    test(`a flipped bit in a ${end} is SHARD_CORRUPT; the error names the object`, async (t) => {
      const key = firstKey(end);
      await replace(t, key, flipped(key, 21));
      await assert.rejects(
        openRemote(t, remote.location).then((mixture) => readSome(mixture)),
        (error: Error) => {
          assert.equal((error as Error & { code: string }).code, 'SHARD_CORRUPT');
          assert.ok(error.message.includes(`s3://data/mixtures/one/${key}`), error.message);
          return true;
        },
      );
    });

  test('opening with a shard of another size, or without a shard, is SHARD_CORRUPT', async (t) => {
    const key = firstKey('.tokens');
    await replace(t, key, readFileSync(join(remote.folder, key)).subarray(1));
    await assert.rejects(openRemote(t, remote.location), { code: 'SHARD_CORRUPT', message: /expected \d+ B, found/u });
    await openStorage(remote.location).delete(key);
    await assert.rejects(openRemote(t, remote.location), {
      code: 'SHARD_CORRUPT',
      message: /expected the file, found none/u,
    });
  });

  test('a shard that changes after opening fails at once, even if the bytes are good', async (t) => {
    const mixture = await openRemote(t, remote.location, { sourceTimeoutMs: 600_000, maxWaitMs: 600_000 });
    const key = firstKey('.tokens');
    await replace(t, key, flipped(key, 3));
    await assert.rejects(readSome(mixture), { code: 'STORAGE_CHANGED' });
  });

  test('no mixture is PATH_UNUSABLE, another mixture is MIXTURE_MISMATCH', async () => {
    const access = { ...quick, cacheFolder: newCache() };
    await assert.rejects(openPreparedMixture('s3://data/nothing', { access }), { code: 'PATH_UNUSABLE' });
    await assert.rejects(openPreparedMixture(remote.location, { access, expectedHash: 'f'.repeat(64) }), {
      code: 'MIXTURE_MISMATCH',
    });
  });

  test('reads wait for a server that is down, report it, and then succeed', async (t) => {
    const notices: SourceNotice[] = [];
    let onNotice: (() => void) | undefined;
    const onSource = (notice: SourceNotice) => {
      notices.push(notice);
      onNotice?.();
    };
    const mixture = await openRemote(t, remote.location, { onSource, stalledAfterMs: 60 });
    await remote.server.stop();
    const reading = readSome(mixture);
    await new Promise<void>((resolve) => {
      onNotice = () => notices.some((notice) => notice.kind === 'stalled' && notice.attempts > 0) && resolve();
    });
    await remote.server.start();
    const near = await openPreparedMixture(remote.folder);
    assert.deepEqual(await reading, await readSome(near));
    near.close();
    assert.equal(notices.at(-1)?.kind, 'answers');
    assert.match(JSON.stringify(notices), /s3:\/\/data\/mixtures\/one\/.*ECONNREFUSED/u);
  });

  test('a server that is down for longer than the deadline is STORAGE_UNAVAILABLE, with the attempts and the reason', async (t) => {
    const mixture = await openRemote(t, remote.location, { sourceTimeoutMs: 1_000 });
    await remote.server.stop();
    t.after(() => remote.server.start());
    await assert.rejects(mixture.tasks[0]!.readTokens(0), {
      code: 'STORAGE_UNAVAILABLE',
      message: /no success after \d+ attempt\(s\); last: .*ECONNREFUSED.*deadline of 1000 ms/u,
    });
  });
});

describe('a prepared mixture on a web server', { timeout: 240_000 }, () => {
  test('that sometimes fails or breaks the connection is read to the last token', async (t) => {
    let numRequests = 0;
    let numFailed = 0;
    let numBroken = 0;
    const server = await startFaultyServer((request, response) => {
      numRequests += 1;
      const bytes = readFileSync(join(remote.folder, request.url!.slice('/m/'.length)));
      if (numRequests % 5 === 0) {
        numFailed += 1;
        answer(503)(request, response);
      } else if (numRequests % 7 === 0) {
        numBroken += 1;
        serve(bytes, { cutAfter: 50 })(request, response);
      } else serve(bytes)(request, response);
    });
    t.after(() => server.close());
    const near = await openPreparedMixture(remote.folder);
    const far = await openRemote(t, `${server.url}/m`);
    assert.deepEqual(await readSome(far), await readSome(near));
    near.close();
    assert.ok(numFailed > 10 && numBroken > 10, `${numFailed} failures, ${numBroken} broken bodies`);
  });
});
