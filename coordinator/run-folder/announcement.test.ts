import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { planAnnouncedUrl, type AnnouncedInit } from './announcement.ts';

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
