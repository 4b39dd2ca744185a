import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { FilesSource, SourceFile } from '../tasks/task.ts';
import { readPlan, writePlan, type SourcePlan } from './plan-file.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-plan-'));
after(() => rmSync(root, { recursive: true }));

const specOf = (...files: SourceFile[]): FilesSource => ({ kind: 'files', format: 'jsonl', quotes: true, files });
const planOf = (...files: SourceFile[]): SourcePlan => ({
  source: {
    format: 'jsonl',
    quotes: true,
    files: files.map((file, i) => ({ ...file, bytes: i + 1, version: `etag:${i}`, storageVersion: `etag:${i}` })),
  },
  units: files.map((_, file) => ({ file, bytes: file + 1, part: { kind: 'whole' } })),
});
const web = (name: string, secret: string): SourceFile => ({ name, location: `https://host/${name}?key=${secret}` });
const glob = { name: 's3://bucket/*.jsonl', location: 's3://bucket/*.jsonl' };
const [one, two] = ['1', '2'].map((n) => ({ name: `s3://bucket/${n}.jsonl`, location: `s3://bucket/${n}.jsonl` }));
const textOf = (task: string) => readFileSync(join(root, '.plans', `${task}.json`), 'utf8');

describe('a plan', () => {
  test('keeps the files of a bucket that one entry of the mixture names, and their order among others', async () => {
    const plan = planOf(web('a', 'secret'), one!, two!, web('b', 'secret'), one!);
    await writePlan(root, 'bucket', specOf(web('a', 'secret'), glob, web('b', 'secret'), one!), 'key', plan);
    assert.doesNotMatch(textOf('bucket'), /secret/);
    const spec = specOf(web('a', 'new'), glob, web('b', 'new'), one!);
    assert.deepEqual(
      await readPlan(root, 'bucket', spec, 'key'),
      planOf(web('a', 'new'), one!, two!, web('b', 'new'), one!),
    );
  });

  test('gives files with the same name their locations in the order of the mixture', async () => {
    const files = [web('a', 'secret1'), web('a', 'secret2'), web('b', 'secret3')];
    await writePlan(root, 'twins', specOf(...files), 'key', planOf(...files));
    assert.doesNotMatch(textOf('twins'), /secret/);
    assert.deepEqual(await readPlan(root, 'twins', specOf(...files), 'key'), planOf(...files));
  });

  test('is ignored if it has another key, another version or a file that the mixture does not give', async () => {
    const spec = specOf(web('a', 'secret'));
    await writePlan(root, 'other', spec, 'key', planOf(...spec.files));
    assert.equal(await readPlan(root, 'other', spec, 'another key'), undefined);
    assert.equal(await readPlan(root, 'other', specOf(web('b', 'secret')), 'key'), undefined);
    writeFileSync(join(root, '.plans', 'other.json'), textOf('other').replace(/"version":\d+,"key"/u, '"key"'));
    assert.equal(await readPlan(root, 'other', spec, 'key'), undefined);
    assert.equal(await readPlan(root, 'none', spec, 'key'), undefined);
  });
});
