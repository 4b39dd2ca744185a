import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import {
  announceCoordinator,
  planAnnouncedUrl,
  readAnnouncement,
  readOwnAnnouncement,
  type AnnouncedInit,
} from './announcement.ts';

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

const HOST: AnnouncedInit = { advertise: undefined, hostName: 'node-1', ofHostName: ['10.0.0.1'], own: ['10.0.0.1'] };

describe('planAnnouncedUrl', () => {
  for (const [what, listened, host, announced] of [
    ['the address it listens on', 'ws://10.0.0.1:7', HOST, 'ws://10.0.0.1:7'],
    ['loopback, where it listens only there', 'ws://127.0.0.1:7', HOST, 'ws://127.0.0.1:7'],
    ['the name of its host for all addresses', 'ws://0.0.0.0:7', HOST, 'ws://node-1:7'],
    ['the name of its host for all addresses of IPv6', 'ws://[::]:7', HOST, 'ws://node-1:7'],
    [
      'an outer address where the name means loopback',
      'ws://0.0.0.0:7',
      { ...HOST, ofHostName: ['127.0.1.1'] },
      'ws://10.0.0.1:7',
    ],
    ['an outer address where the name means nothing', 'ws://0.0.0.0:7', { ...HOST, ofHostName: [] }, 'ws://10.0.0.1:7'],
    [
      'an outer address of IPv6',
      'ws://[::]:7',
      { ...HOST, ofHostName: [], own: ['2001:db8::1'] },
      'ws://[2001:db8::1]:7',
    ],
    [
      'loopback on a host without a network',
      'ws://0.0.0.0:7',
      { ...HOST, ofHostName: ['127.0.0.1'], own: [] },
      'ws://127.0.0.1:7',
    ],
    ['the advertised name before all', 'ws://0.0.0.0:7', { ...HOST, advertise: 'gateway' }, 'ws://gateway:7'],
    [
      'the advertised address of IPv6',
      'ws://127.0.0.1:7',
      { ...HOST, advertise: '2001:db8::9' },
      'ws://[2001:db8::9]:7',
    ],
  ] as const)
    test(`announces ${what}`, () => {
      assert.equal(planAnnouncedUrl(listened, host), announced);
    });
});
