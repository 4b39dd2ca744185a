import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { FolderProbe } from './folder-probe.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-folder-probe-'));
after(() => rmSync(root, { recursive: true }));

async function makeProbe() {
  const checkpoints = mkdtempSync(join(root, 'checkpoints-'));
  const probe = await FolderProbe.create(checkpoints);
  const { path } = probe.request(undefined);
  const text = await readFile(path, 'utf8');
  return { checkpoints, probe, path, folder: dirname(path), text };
}

const FILE = `worker-${'0123456789ab'.padStart(36, '0')}`;

describe('folder probe', () => {
  test('a worker that reads the text and writes it beside it sees the folder; its file is removed', async () => {
    const { probe, folder, text } = await makeProbe();
    await writeFile(join(folder, FILE), text);
    assert.equal(await probe.findFault({ text, file: FILE }), undefined);
    assert.deepEqual(await readdir(folder), ['coordinator']);
  });

  test('a worker that read another text, wrote elsewhere, wrote another text or did not answer does not see it', async () => {
    const { probe, folder, text } = await makeProbe();
    const faultOf = async (answer: Parameters<FolderProbe['findFault']>[0]) => (await probe.findFault(answer)) ?? '';
    assert.match(await faultOf({ text: 'other', file: FILE }), /^it read another folder: /u);
    assert.equal(
      await faultOf({ text, file: FILE }),
      `it wrote to another folder: its host must have the file system of the run folder under the same path; expected ${join(folder, FILE)}, found none`,
    );
    await writeFile(join(folder, FILE), 'other');
    assert.match(await faultOf({ text, file: FILE }), /^it wrote to another folder: .*another text is in .*worker-/u);
    assert.match(await faultOf(undefined), /^it did not read the run folder: /u);
  });

  test('a name that leads out of the folder is refused, and nothing is removed there', async () => {
    const { probe, checkpoints, text } = await makeProbe();
    await writeFile(join(checkpoints, 'precious'), text);
    for (const file of ['../precious', 'coordinator', '', `worker-${'/'.repeat(36)}`])
      assert.match((await probe.findFault({ text, file })) ?? '', /expected the name of its file/u);
    assert.equal(await readFile(join(checkpoints, 'precious'), 'utf8'), text);
  });

  test('it is removed at the end, or by the next coordinator if this one is killed', async () => {
    const { checkpoints, probe } = await makeProbe();
    const next = await FolderProbe.create(checkpoints);
    assert.deepEqual(await readdir(checkpoints), [basename(dirname(next.request(undefined).path))]);
    await next.remove();
    await probe.remove();
    assert.deepEqual(await readdir(checkpoints), []);
  });

  test('a checkpoint of another run is to be read, one of this run is not', async () => {
    const { checkpoints, probe, path } = await makeProbe();
    assert.deepEqual(probe.request(join(checkpoints, 'step-2')), { path });
    assert.deepEqual(probe.request('/other/checkpoints/step-2'), { path, checkpoint: '/other/checkpoints/step-2' });
  });

  test('a folder that cannot be written is PATH_UNUSABLE', async () => {
    await assert.rejects(FolderProbe.create('/proc/self'), { code: 'PATH_UNUSABLE' });
  });
});
