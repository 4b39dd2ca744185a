import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { serve, startFaultyServer, type FaultyServer } from '../../shared/storage/faulty-server.fixture.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import { startS3Server } from '../../shared/storage/s3-server.fixture.ts';
import { startMockHub } from '../sources/hub/mock-hub.fixture.ts';
import { createSourceAccess } from '../sources/source-access.ts';
import type { Mixture, Task } from '../tasks/task.ts';
import { prepareMixture, prepareShard, type PrepareInit } from './prepare-mixture.ts';
import { writeSmallMixture } from './small-mixture.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-remote-'));
const sources = join(root, 'sources');
const small = writeSmallMixture(sources);
const first = readFileSync(join(sources, 'plain.jsonl'));
const second = Buffer.concat([first, first]);
let server: FaultyServer;
before(async () => {
  server = await startFaultyServer(serve(first));
});
beforeEach(() => server.script(serve(first)));
after(async () => {
  await server.close();
  rmSync(root, { recursive: true });
});

let numFolders = 0;
const newFolder = () => join(root, `out-${numFolders++}`);

/** The task `plain` with its file on the server, cut into a few units. */
function remote(
  files = [{ location: `${server.url}/plain.jsonl?signature=secret`, name: 'https://example.org/plain.jsonl' }],
): Mixture {
  const plain = small.tasks[0]!;
  const task: Task = { ...plain, source: { kind: 'files', format: 'jsonl', quotes: true, files } };
  return {
    name: small.name,
    path: small.path,
    tokenizerPath: small.tokenizerPath,
    options: small.options,
    tasks: [task],
  };
}

const options = (outDir: string, more: Partial<PrepareInit> = {}): PrepareInit => ({
  mixture: remote(),
  outDir,
  featureLengths: { inputs: 24, targets: 12 },
  unitBytes: 2000,
  ...more,
});
/** The requests during a call. */
async function requestsOf(work: () => Promise<unknown>): Promise<readonly string[]> {
  const numBefore = server.requests.length;
  await work();
  return server.requests.slice(numBefore);
}
const heads = (requests: readonly string[]) => requests.filter((request) => request.startsWith('HEAD')).length;

describe('the rows of a split', () => {
  const rows = first
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, string>);
  const columnData = Object.keys(rows[0]!).map((name) => ({
    name,
    data: rows.map((row) => row[name]!),
    type: 'STRING' as const,
  }));
  const readme = (count: number) =>
    `---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: ${count}\n---\n# a set\n`;

  async function prepareSet(count: number, outDir: string, more: object = {}) {
    const files = {
      'README.md': readme(count),
      'data/train.parquet': new Uint8Array(parquetWriteBuffer({ columnData })),
    };
    const hub = await startMockHub({ datasets: { 'a/b': { files } } });
    try {
      const mixture = remote();
      const source = { kind: 'hub', dataset: 'a/b', split: 'train', ...more } as const;
      const access = createSourceAccess({ hubUrl: hub.url, cacheFolder: join(root, 'hub'), environment: {} });
      return await prepareMixture(
        options(outDir, { mixture: { ...mixture, tasks: [{ ...mixture.tasks[0]!, source }] }, access }),
      );
    } finally {
      await hub.close();
    }
  }

  test('are as many as README.md tells; else the task is refused', async () => {
    const { tasks } = await prepareSet(rows.length, newFolder());
    assert.equal(tasks[0]!.manifest.numRows, rows.length);
    const outDir = newFolder();
    for (const told of [rows.length + 3, rows.length - 3, 0]) {
      const pattern = `a/b, split train tells ${told} rows .*but its 1 file\\(s\\) have ${rows.length}: data/train\\.parquet.*name them with files and format`;
      await assert.rejects(prepareSet(told, outDir), { code: 'SOURCE_MALFORMED', message: new RegExp(pattern, 'u') });
      assert.ok(!existsSync(join(outDir, 'mixture.json')));
    }
  });

  test('are not compared where the mixture names the files', async () => {
    const files = { files: ['data/train.parquet'], format: 'parquet' };
    const { tasks } = await prepareSet(rows.length + 3, newFolder(), files);
    assert.equal(tasks[0]!.manifest.numRows, rows.length);
  });

  test('that were counted are kept when the files are named after the refusal', async () => {
    const outDir = newFolder();
    await assert.rejects(prepareSet(7, outDir), { code: 'SOURCE_MALFORMED' });
    const { tasks } = await prepareSet(7, outDir, { files: ['data/*.parquet'], format: 'parquet' });
    assert.equal(tasks[0]!.unitsMade, 0);
    assert.ok(tasks[0]!.unitsKept > 0);
  });
});

describe('a preparation from a server', () => {
  test('continues with the version it began with, resolves only once, and stores no secrets', async () => {
    const outDir = newFolder();
    await prepareShard(options(outDir, { units: { index: 1, count: 2 } }));
    const plan = readFileSync(join(outDir, '.plans', 'plain.json'), 'utf8');
    assert.doesNotMatch(plan, /secret|127\.0\.0\.1/);
    const requests = await requestsOf(() => prepareShard(options(outDir, { units: { index: 2, count: 2 } })));
    assert.equal(heads(requests), 0);
    assert.ok(requests.length > 0, 'its own units are read');
    assert.ok(existsSync(join(outDir, 'mixture.json')));
    assert.ok(!existsSync(join(outDir, '.plans')), 'plans go when the mixture is finished');
    const alone = newFolder();
    await prepareMixture(options(alone));
    assert.deepEqual(readdirSync(join(outDir, 'plain')), readdirSync(join(alone, 'plain')));
    assert.deepEqual(readFileSync(join(outDir, 'mixture.json')), readFileSync(join(alone, 'mixture.json')));
  });

  test('fails if its file changes in between; with refresh, all its units are made again', async () => {
    const outDir = newFolder();
    const { unitsMade } = await prepareShard(options(outDir, { units: { index: 1, count: 2 } }));
    server.script(serve(second, { etag: '"v2"' }));
    await assert.rejects(prepareShard(options(outDir, { units: { index: 2, count: 2 } })), {
      code: 'SOURCE_UNREADABLE',
      message: /task plain: .*plain\.jsonl/,
    });
    const { tasks } = await prepareMixture(options(outDir, { refresh: true }));
    assert.ok(tasks[0]!.unitsMade > unitsMade);
    assert.deepEqual([tasks[0]!.unitsKept, tasks[0]!.manifest.numRows], [0, 120]);
    assert.match(tasks[0]!.reason ?? '', /made from another source or other settings/);
  });

  test('that is finished is used as it is with pinned, also without a server; preparing again notices a change', async () => {
    const outDir = newFolder();
    const { hash } = await prepareMixture(options(outDir));
    server.script((_request, response) => response.writeHead(404).end());
    const requests = await requestsOf(async () => {
      assert.equal((await prepareMixture(options(outDir, { pinned: true }))).hash, hash);
    });
    assert.deepEqual(requests, []);
    await assert.rejects(prepareMixture(options(outDir)), { message: /task plain: .*plain\.jsonl/ });
    assert.ok(existsSync(join(outDir, 'mixture.json')), 'what is finished stays');
    server.script(serve(second, { etag: '"v2"' }));
    const { tasks } = await prepareMixture(options(outDir));
    assert.match(tasks[0]!.reason ?? '', /changed: its source \(https:\/\/example\.org\/plain\.jsonl\)/);
    assert.equal(tasks[0]!.manifest.numRows, 120);
  });

  for (const processes of [1, 2])
    test(`by ${processes} process(es) reports each retry, without secrets`, async () => {
      const serveFirst = serve(first);
      let numBusy = 2;
      server.script((request, response) => {
        if (request.method === 'GET' && numBusy-- > 0) response.writeHead(503).end();
        else serveFirst(request, response);
      });
      const access = createSourceAccess({ cacheFolder: join(root, 'cache'), storage: { retry: { firstWaitMs: 10 } } });
      const notes: string[] = [];
      await prepareMixture(options(newFolder(), { access, processes, onNote: (line) => notes.push(line) }));
      assert.equal(notes.length, 2, notes.join('\n'));
      for (const note of notes) {
        assert.match(note, /plain\.jsonl: .*503.*; attempt \d, the next in \d+\.\d s/);
        assert.doesNotMatch(note, /secret/);
      }
    });

  test('of files below a prefix of a bucket is continued by other members, without listing the bucket again', async () => {
    const s3 = await startS3Server({ folder: join(root, 's3'), buckets: ['bucket'] });
    try {
      const access = createSourceAccess({
        cacheFolder: join(root, 'cache'),
        environment: {},
        storage: { s3: s3.options },
      });
      const storage = openStorage('s3://bucket/c4', access.storage);
      for (const name of ['1.jsonl', '2.jsonl']) await storage.put(name, first);
      const mixture = remote([{ location: 's3://bucket/c4/', name: 's3://bucket/c4/' }]);
      const outDir = newFolder();
      await prepareShard(options(outDir, { mixture, access, units: { index: 1, count: 2 } }));
      await storage.put('3.jsonl', first); // not of the plan
      const { finished } = await prepareShard(options(outDir, { mixture, access, units: { index: 2, count: 2 } }));
      assert.deepEqual(
        finished?.tasks.map(({ manifest }) => manifest.identity.source.files.map(({ name }) => name)),
        [['s3://bucket/c4/1.jsonl', 's3://bucket/c4/2.jsonl']],
      );
    } finally {
      await s3.close();
    }
  });

  test('that is finished but damaged is not used as it is', async () => {
    const outDir = newFolder();
    const { hash, tasks } = await prepareMixture(options(outDir));
    rmSync(join(outDir, 'plain', tasks[0]!.manifest.shards[0]!.tokens.file));
    const again = await prepareMixture(options(outDir, { pinned: true }));
    assert.deepEqual([again.hash, again.tasks[0]!.unitsMade], [hash, 1]);
  });
});
