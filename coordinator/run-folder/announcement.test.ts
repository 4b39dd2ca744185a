import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { announceCoordinator, readAnnouncement, readOwnAnnouncement } from './announcement.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-announcement-'));
after(() => rmSync(root, { recursive: true }));

let number = 0;
function newFolder(): string {
  const folder = join(root, String(number++));
  mkdirSync(folder);
  return folder;
}

describe('coordinator.json', () => {
  const before = process.env['EXMIX_HOME'];
  beforeEach(() => {
    process.env['EXMIX_HOME'] = newFolder();
  });
  afterEach(() => {
    if (before === undefined) delete process.env['EXMIX_HOME'];
    else process.env['EXMIX_HOME'] = before;
  });

  const ADDRESS = { url: 'ws://127.0.0.1:7070', token: '0123456789abcdef0123' };

  test('has address and token for its user only, and is our own', async () => {
    const folder = newFolder();
    assert.equal(await readAnnouncement(folder), undefined);
    assert.equal(await readOwnAnnouncement(folder), undefined);
    await announceCoordinator(folder, { ...ADDRESS, epoch: 1 });
    assert.equal(statSync(join(folder, 'coordinator.json')).mode & 0o777, 0o600);
    for (const read of [readAnnouncement, readOwnAnnouncement]) {
      const found = await read(folder);
      assert.deepEqual([found?.url, found?.token], [ADDRESS.url, ADDRESS.token]);
    }
  });

  test('of a stranger has an address, and is not our own: without seal, changed, of another folder or home', async () => {
    const folder = newFolder();
    const file = join(folder, 'coordinator.json');
    writeFileSync(file, JSON.stringify(ADDRESS));
    assert.equal((await readAnnouncement(folder))?.token, ADDRESS.token);
    assert.equal(await readOwnAnnouncement(folder), undefined);

    await announceCoordinator(folder, { ...ADDRESS, epoch: 1 });
    const text = readFileSync(file, 'utf8');
    const copy = newFolder();
    copyFileSync(file, join(copy, 'coordinator.json'));
    assert.equal(await readOwnAnnouncement(copy), undefined, 'copied to another folder');
    writeFileSync(file, text.replace(ADDRESS.token, 'fedcba98765432100123'));
    assert.equal(await readOwnAnnouncement(folder), undefined, 'another token');
    writeFileSync(file, text);
    process.env['EXMIX_HOME'] = newFolder();
    assert.equal(await readOwnAnnouncement(folder), undefined, 'another home');
  });

  for (const [what, text] of [
    ['no JSON', 'ws://'],
    ['no URL', '{"url":"nowhere","token":"0123456789abcdef0123"}'],
    ['no token', '{"url":"ws://127.0.0.1:1"}'],
  ] as const)
    test(`with ${what} is PATH_UNUSABLE and named`, async () => {
      const folder = newFolder();
      writeFileSync(join(folder, 'coordinator.json'), text);
      const expected = { code: 'PATH_UNUSABLE', message: /coordinator\.json: expected the address and token/u };
      await assert.rejects(readAnnouncement(folder), expected);
    });

  test('is written without a seal where the home cannot be written', async () => {
    writeFileSync(join(root, 'file'), '');
    process.env['EXMIX_HOME'] = join(root, 'file', 'home');
    const folder = newFolder();
    await announceCoordinator(folder, { ...ADDRESS, epoch: 1 });
    assert.equal((await readAnnouncement(folder))?.token, ADDRESS.token);
    assert.equal(await readOwnAnnouncement(folder), undefined);
  });
});
