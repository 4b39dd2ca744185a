import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { ownFileTag } from '../../../shared/process-place.ts';
import type { StorageOptions } from '../../../shared/storage/open-storage.ts';
import type { RetryNotice } from '../../../shared/storage/retries.ts';
import type { HubSource } from '../../tasks/task.ts';
import { readSource, readUnit } from '../read-unit.ts';
import { resolveSource } from '../resolve-source.ts';
import type { ResolvedSource } from '../resolved-source.ts';
import { createSourceAccess, type SourceAccess } from '../source-access.ts';
import { splitSource } from '../split-source.ts';
import { cachedPath } from './hub-cache.ts';
import { startMockHub, type MockDataset, type MockHub, type MockHubInit } from './mock-hub.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-hub-'));
const hubs: MockHub[] = [];
after(async () => {
  await Promise.all(hubs.map((hub) => hub.close()));
  rmSync(root, { recursive: true });
});

const table = (values: readonly string[], rowGroupSize = 1_000): Uint8Array =>
  new Uint8Array(
    parquetWriteBuffer({ rowGroupSize, columnData: [{ name: 'text', data: [...values], type: 'STRING' }] }),
  );
const LONG = Array.from({ length: 4_000 }, (_, i) => `text number ${i} ${(i * 7919) % 10_007}`);

let numFolders = 0;
async function open(
  datasets: Readonly<Record<string, MockDataset>>,
  {
    environment = {},
    storage = {},
    ...init
  }: Partial<MockHubInit> & {
    environment?: Readonly<Record<string, string>>;
    storage?: StorageOptions;
  } = {},
): Promise<{ hub: MockHub; access: SourceAccess; notices: RetryNotice[] }> {
  const hub = await startMockHub({ datasets, ...init });
  hubs.push(hub);
  const notices: RetryNotice[] = [];
  const access = createSourceAccess({
    hubUrl: `${hub.url}/`,
    cacheFolder: join(root, String(numFolders++)),
    environment: { HOME: root, ...environment },
    storage: {
      retry: { firstWaitMs: 1, maxWaitMs: 2, deadlineMs: 3_000 },
      onRetry: (notice) => notices.push(notice),
      ...storage,
    },
  });
  return { hub, access, notices };
}

const source = (dataset: string, split: string, more: Partial<HubSource> = {}): HubSource => ({
  kind: 'hub',
  dataset,
  split,
  ...more,
});
const namesOf = ({ files }: ResolvedSource) => files.map(({ name }) => name);

async function textsOf(resolved: ResolvedSource, access: SourceAccess): Promise<unknown[]> {
  const texts: unknown[] = [];
  for await (const batch of readSource(resolved, { access, requiredFields: ['text'] }))
    for (const record of batch) texts.push(record.ok ? record.fields['text'] : record.reason);
  return texts;
}

describe('files of a split', () => {
  test('are the parquet files of the repository, by config and split, at the commit of the revision', async () => {
    const { hub, access } = await open(
      {
        'nyu-mll/glue': {
          files: {
            'README.md': '# GLUE',
            'mnli/train-00001-of-00002.parquet': table(['c']),
            'mnli/train-00000-of-00002.parquet': table(['a', 'b']),
            'mnli/validation-00000-of-00001.parquet': table(['v']),
            'qqp/train-00000-of-00001.parquet': table(['q']),
          },
          revisions: { v1: { 'data/train-00000-of-00001-0123456789abcdef.parquet': table(['old']) } },
        },
      },
      { pageSize: 2 },
    );
    const resolved = await resolveSource(source('nyu-mll/glue', 'train', { config: 'mnli' }), access);
    assert.deepEqual(namesOf(resolved), ['mnli/train-00000-of-00002.parquet', 'mnli/train-00001-of-00002.parquet']);
    assert.deepEqual(resolved.origin, {
      dataset: 'nyu-mll/glue',
      config: 'mnli',
      split: 'train',
      revision: hub.commitOf('nyu-mll/glue'),
    });
    assert.deepEqual(await textsOf(resolved, access), ['a', 'b', 'c']);
    const old = await resolveSource(source('nyu-mll/glue', 'train', { revision: 'v1' }), access);
    assert.equal(old.origin?.revision, hub.commitOf('nyu-mll/glue', 'v1'));
    assert.deepEqual(await textsOf(old, access), ['old']);
    assert.ok(hub.requests.filter((request) => request.includes('/tree/')).length >= 3, 'listed in pages');
  });

  test('are those of the conversion if the repository has no parquet files', async () => {
    const { hub, access } = await open({
      'old/script': {
        files: { 'script.py': 'import datasets', 'README.md': '---\ntags: [a]\n---\n' },
        converted: {
          'default/train/0000.parquet': table(['a']),
          'default/train/0001.parquet': table(['b']),
          'default/partial-test/0000.parquet': table(['c']),
          'other/train/0000.parquet': table(['d']),
        },
      },
    });
    const resolved = await resolveSource(source('old/script', 'train'), access);
    assert.deepEqual(namesOf(resolved), ['default/train/0000.parquet', 'default/train/0001.parquet']);
    assert.equal(resolved.origin?.revision, hub.commitOf('old/script', 'refs/convert/parquet'));
    assert.deepEqual(await textsOf(resolved, access), ['a', 'b']);
    const other = await resolveSource(source('old/script', 'train', { config: 'other' }), access);
    assert.deepEqual(await textsOf(other, access), ['d']);
    await assert.rejects(resolveSource(source('old/script', 'test'), access), {
      code: 'NAME_UNKNOWN',
      message: /converted only a part/,
    });
  });

  test('are those that README.md lists, if it lists any', async () => {
    const card = [
      '---',
      'configs:',
      '- config_name: en',
      '  data_files:',
      '  - {split: train, path: "parts/en/*.parquet"}',
      '  - {split: test, path: ["odd/held-out.parquet"]}',
      '- config_name: all',
      '  default: true',
      '  data_files: "parts/**/*.parquet"',
      '---',
      'text',
    ].join('\n');
    const { access } = await open({
      'a/b': {
        files: {
          'README.md': card,
          'parts/en/x1.parquet': table(['x1']),
          'parts/en/x2.parquet': table(['x2']),
          'parts/fr/y.parquet': table(['y']),
          'odd/held-out.parquet': table(['t']),
        },
      },
    });
    const read = async (split: string, config?: string) =>
      textsOf(await resolveSource(source('a/b', split, config === undefined ? {} : { config }), access), access);
    assert.deepEqual(await read('train', 'en'), ['x1', 'x2']);
    assert.deepEqual(await read('test', 'en'), ['t']);
    assert.deepEqual(await read('train'), ['x1', 'x2', 'y']);
  });

  test('may be named by globs, in any format; only their folder is listed', async () => {
    const lines = (from: number) => gzipSync(`{"text":"${from}"}\n{"text":"${from + 1}"}\n`);
    const { hub, access } = await open({
      'allenai/c4': {
        files: {
          'en/c4-train.00000-of-00002.json.gz': lines(0),
          'en/c4-train.00001-of-00002.json.gz': lines(2),
          'en/c4-validation.00000-of-00001.json.gz': lines(4),
          'fr/c4-train.00000-of-00001.json.gz': lines(6),
          'plain.jsonl': '{"text":"é"}\n',
        },
      },
    });
    const globs = { files: ['en/c4-train.*.json.gz'], format: 'jsonl' } as const;
    const resolved = await resolveSource(source('allenai/c4', 'train', globs), access);
    assert.deepEqual(await textsOf(resolved, access), ['0', '1', '2', '3']);
    assert.ok(hub.requests.some((request) => request.includes('/en?recursive=true')));
    const plain = await resolveSource(
      source('allenai/c4', 'train', { files: ['plain.jsonl'], format: 'jsonl' }),
      access,
    );
    assert.match(plain.files[0]!.version, /^git:[0-9a-f]{40}$/);
    assert.deepEqual(await textsOf(plain, access), ['é']);
    await assert.rejects(
      resolveSource(source('allenai/c4', 'train', { ...globs, files: ['en/c4-tain.*.gz'] }), access),
      {
        code: 'NAME_UNKNOWN',
        message: /no file matches en\/c4-tain/,
      },
    );
  });

  for (const [what, wanted, message] of [
    ['a data set', source('nyu-mll/glu', 'train'), /STORAGE_DENIED.*nyu-mll\/glu.*no such data set, or it is private/],
    ['a revision', source('nyu-mll/glue', 'train', { revision: 'v9' }), /NAME_UNKNOWN.*no revision v9/],
    [
      'a config',
      source('nyu-mll/glue', 'train', { config: 'mnly' }),
      /NAME_UNKNOWN.*no configuration mnly; did you mean mnli/,
    ],
    [
      'a split',
      source('nyu-mll/glue', 'trian', { config: 'mnli' }),
      /NAME_UNKNOWN.*no split trian.*did you mean train/,
    ],
    ['which of several configs', source('nyu-mll/glue', 'train'), /NAME_UNKNOWN.*several configurations.*mnli, qqp/],
  ] as const)
    test(`the error says what does not exist: ${what}`, async () => {
      const { access } = await open({
        'nyu-mll/glue': {
          files: {
            'mnli/train-00000-of-00001.parquet': table(['a']),
            'qqp/train-00000-of-00001.parquet': table(['b']),
          },
        },
      });
      await assert.rejects(resolveSource(wanted, access), (error: Error & { code?: string }) => {
        assert.match(`${error.code ?? ''} ${error.message}`, message);
        return true;
      });
    });
});

describe('requests to a hub', () => {
  const gated = { 'a/gated': { files: { 'data/train.parquet': table(['a']) }, gatedTo: 'hf_good' } };

  test('send the token from the usual places', async () => {
    const home = join(root, 'home');
    mkdirSync(join(home, '.cache', 'huggingface'), { recursive: true });
    writeFileSync(join(home, '.cache', 'huggingface', 'token'), 'hf_good\n');
    writeFileSync(join(root, 'token-file'), 'hf_good\n');
    for (const environment of [
      { HF_TOKEN: 'hf_good', HF_TOKEN_PATH: '/nowhere' },
      { HF_TOKEN_PATH: join(root, 'token-file') },
      { HOME: home },
      { HF_HOME: join(home, '.cache', 'huggingface') },
    ]) {
      const { access } = await open(gated, { environment });
      assert.deepEqual(await textsOf(await resolveSource(source('a/gated', 'train'), access), access), ['a']);
    }
  });

  test('for a gated set without the right token fail with what to do', async () => {
    const without = await open(gated);
    await assert.rejects(resolveSource(source('a/gated', 'train'), without.access), {
      code: 'STORAGE_DENIED',
      message: /gated \(401\): accept its terms on .*datasets\/a\/gated, then set HF_TOKEN/,
    });
    const wrong = await open(gated, { environment: { HF_TOKEN: 'hf_bad' } });
    await assert.rejects(resolveSource(source('a/gated', 'train'), wrong.access), {
      code: 'STORAGE_DENIED',
      message: /gated \(403\).*use a token of that account/,
    });
    await assert.rejects(resolveSource(source('a/none', 'train'), wrong.access), { code: 'NAME_UNKNOWN' });
  });

  for (const [what, linkTo] of [
    ['the hub that the mirror mirrors', (next) => `<https://hub.invalid${next.pathname}${next.search}>; rel="next"`],
    ['a relative one', (next) => `<${next.pathname}${next.search}>; rel="next"`],
    [
      'one below a prefix, beside others',
      (next) => `<https://hub.invalid/x>; rel="prev", <https://hub.invalid/hub${next.pathname}${next.search}>;rel=next`,
    ],
  ] as const satisfies readonly (readonly [string, MockHubInit['linkTo']])[])
    test(`ask every page of the given hub, if its link names ${what}`, async () => {
      const names = Array.from({ length: 5 }, (_, i) => `data/train-0000${i}-of-00005.parquet`);
      const files = Object.fromEntries(names.map((name, i) => [name, table([String(i)])]));
      const { access } = await open({ 'a/b': { files } }, { pageSize: 2, linkTo });
      assert.deepEqual(namesOf(await resolveSource(source('a/b', 'train'), access)), names);
    });

  test('that another server refuses are not said to be about a gated set', async () => {
    for (const [status, environment, message] of [
      [
        403,
        {},
        /refused access \(403\) without the hub's word why: if the set is not public, set HF_TOKEN; if a proxy or firewall/,
      ],
      [
        401,
        { HF_TOKEN: 'hf_x' },
        /refused access \(401\) without the hub's word why: check that HF_TOKEN is a token of that server/,
      ],
    ] as const) {
      const { hub, access } = await open({ 'a/b': { files: {} } }, { environment });
      hub.fault({ status, code: '', times: 9 });
      await assert.rejects(resolveSource(source('a/b', 'train'), access), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'STORAGE_DENIED');
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /gated/);
        return true;
      });
    }
    const { hub, access } = await open({ 'a/b': { files: { 'data/train.parquet': table(['a']) } } });
    const resolved = await resolveSource(source('a/b', 'train'), access);
    hub.fault({ match: '/cdn/', status: 403, code: '' });
    await assert.rejects(textsOf(resolved, access), { code: 'STORAGE_DENIED', message: /train\.parquet answers 403/ });
  });

  test('for a file of a gated set, whose listing is public, say that it is gated', async () => {
    const { hub, access } = await open({ 'a/b': { files: { 'data/train.parquet': table(['a']) } } });
    const resolved = await resolveSource(source('a/b', 'train'), access);
    hub.fault({ match: '/resolve/', status: 401, code: 'GatedRepo' });
    await assert.rejects(textsOf(resolved, access), {
      code: 'STORAGE_DENIED',
      message: /data set a\/b is gated \(401\): accept its terms on .*\/datasets\/a\/b, then set HF_TOKEN/,
    });
  });

  test('answered with a login page fail with what it is', async () => {
    const { hub, access } = await open({ 'a/b': { files: {} } });
    hub.fault({ page: '<!doctype html><title>Log in</title>' });
    await assert.rejects(resolveSource(source('a/b', 'train'), access), {
      code: 'STORAGE_UNAVAILABLE',
      message: /data set a\/b on http:.*expected JSON, found a page of HTML, perhaps a login page; check the address/,
    });
  });

  test('need an address with http:// or https://', async () => {
    const access = createSourceAccess({ hubUrl: 'hub.example:8080', environment: {} });
    await assert.rejects(resolveSource(source('a/b', 'train'), access), {
      code: 'CONFIG_INVALID',
      message: /--hub-url, HF_ENDPOINT.*found hub\.example:8080; write https:\/\/hub\.example:8080/,
    });
  });

  test('are retried after 429, 500 or a broken connection, when listing and when downloading', async () => {
    const { hub, access, notices } = await open({ 'a/b': { files: { 'data/train.parquet': table(LONG) } } });
    hub.fault({ match: '/revision/', status: 500 });
    hub.fault({ match: '/tree/', status: 429, retryAfter: 0 });
    hub.fault({ match: '/tree/', cutAfter: 10 });
    hub.fault({ match: '/resolve/', status: 503 });
    hub.fault({ match: '/cdn/', cutAfter: 1_000, times: 3 });
    const resolved = await resolveSource(source('a/b', 'train'), access);
    assert.deepEqual(await textsOf(resolved, access), LONG);
    assert.equal(notices.length, 7);
    assert.ok(hub.bytesSent() < 2 * resolved.files[0]!.bytes + 20_000, 'resumed, not started again');
  });

  test('fail with STORAGE_UNAVAILABLE at the deadline if the hub stays away', async () => {
    const { hub, access } = await open(
      { 'a/b': { files: {} } },
      { storage: { retry: { deadlineMs: 50, firstWaitMs: 5 } } },
    );
    hub.fault({ status: 503, times: 1_000 });
    await assert.rejects(resolveSource(source('a/b', 'train'), access), {
      code: 'STORAGE_UNAVAILABLE',
      message: /asking data set a\/b on http.*last: 503/,
    });
  });

  test('after a new commit: a resolved source is read at its commit, and resolving again finds the new one', async () => {
    const { hub, access } = await open({ 'a/b': { files: { 'data/train.parquet': table(['old']) } } });
    const resolved = await resolveSource(source('a/b', 'train'), access);
    const commit = hub.commit('a/b', { 'data/train.parquet': table(['new']) });
    assert.deepEqual(await textsOf(resolved, access), ['old']);
    const again = await resolveSource(source('a/b', 'train'), access);
    assert.equal(again.origin?.revision, commit);
    assert.notEqual(again.files[0]!.version, resolved.files[0]!.version);
    assert.deepEqual(await textsOf(again, access), ['new']);
  });
});

describe('downloads', () => {
  const datasets = { 'a/b': { files: { 'data/train.parquet': table(LONG) } } };

  test('are kept by content: the same file is downloaded once, also for another set', async () => {
    const { hub, access } = await open({ ...datasets, 'c/d': datasets['a/b'] });
    const resolved = await resolveSource(source('a/b', 'train'), access);
    await Promise.all([textsOf(resolved, access), textsOf(resolved, access)]);
    await textsOf(await resolveSource(source('c/d', 'train'), access), access);
    assert.equal(hub.requests.filter((request) => request.includes('/cdn/')).length, 1);
    assert.deepEqual(readdirSync(join(access.cacheFolder, 'hub')), [resolved.files[0]!.version.replace(':', '-')]);
  });

  test('resume at another server of the hub, whose ETags differ: the hash decides', async () => {
    const { hub, access } = await open(datasets, { numEdges: 3 });
    const resolved = await resolveSource(source('a/b', 'train'), access);
    hub.fault({ match: '/cdn/', cutAfter: 1_000, times: 4 });
    assert.deepEqual(await textsOf(resolved, access), LONG);
    assert.ok(hub.bytesSent() < resolved.files[0]!.bytes + 20_000, 'resumed, not started again');
    const edges = hub.requests.map((request) => /edge-\d/u.exec(request)?.[0]).filter((edge) => edge !== undefined);
    assert.deepEqual(edges, ['edge-0', 'edge-1', 'edge-2', 'edge-0', 'edge-1']);
  });

  test('of a killed process are resumed', async () => {
    const { hub, access } = await open(datasets);
    const resolved = await resolveSource(source('a/b', 'train'), access);
    const content = datasets['a/b'].files['data/train.parquet'];
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    mkdirSync(join(access.cacheFolder, 'hub'), { recursive: true });
    const path = cachedPath(resolved.files[0]!, access);
    writeFileSync(`${path}.partial-${ownFileTag(child.pid)}`, content.subarray(0, content.length - 100));
    const before = hub.bytesSent();
    assert.deepEqual(await textsOf(resolved, access), LONG);
    assert.equal(hub.bytesSent() - before, 100);
    assert.deepEqual(readFileSync(path), Buffer.from(content));
    assert.equal(readdirSync(join(access.cacheFolder, 'hub')).length, 1);
  });

  test('report that they continue, also while waiting for another host', async () => {
    const { access } = await open(datasets);
    const resolved = await resolveSource(source('a/b', 'train'), access);
    mkdirSync(join(access.cacheFolder, 'hub'), { recursive: true });
    const ofAnother = `${cachedPath(resolved.files[0]!, access)}.partial-another-1`;
    writeFileSync(ofAnother, 'x');
    const signs: string[] = [];
    const onDownload = (): void => {
      signs.push(existsSync(ofAnother) ? 'waiting' : 'downloading');
      rmSync(ofAnother, { force: true });
    };
    for await (const { length } of readSource(resolved, { access, onDownload })) signs.push(length > 0 ? 'rows' : '');
    assert.deepEqual([...new Set(signs)], ['waiting', 'downloading', 'rows']);
    signs.length = 0;
    for await (const { length } of readSource(resolved, { access, onDownload })) signs.push(length > 0 ? 'rows' : '');
    assert.deepEqual([...new Set(signs)], ['rows'], 'nothing is downloaded again');
  });

  test('with another hash than the hub says are rejected and removed', async () => {
    const { hub, access } = await open(datasets);
    const resolved = await resolveSource(source('a/b', 'train'), access);
    hub.fault({ match: '/cdn/', corrupt: true });
    await assert.rejects(textsOf(resolved, access), {
      code: 'SOURCE_UNREADABLE',
      message: /data\/train\.parquet: downloaded bytes have the hash [0-9a-f]{64}, the hub says [0-9a-f]{64}/,
    });
    assert.deepEqual(readdirSync(join(access.cacheFolder, 'hub')), []);
    assert.deepEqual(await textsOf(resolved, access), LONG);
  });

  test('are not needed for a footer: splitting a large file reads a few ranges', async () => {
    const { hub, access } = await open({ 'a/b': { files: { 'data/train.parquet': table(LONG, 100) } } });
    const resolved = await resolveSource(source('a/b', 'train'), access);
    const before = hub.bytesSent();
    const units = await splitSource(resolved, 10_000, access);
    assert.ok(units.length > 3);
    assert.ok(hub.bytesSent() - before < 66_000);
    assert.ok(!existsSync(cachedPath(resolved.files[0]!, access)));
    const texts: unknown[] = [];
    for (const unit of units)
      for await (const batch of readUnit(resolved, unit, { access }))
        for (const record of batch) texts.push(record.ok ? record.fields['text'] : record.reason);
    assert.deepEqual(texts, LONG);
  });
});
