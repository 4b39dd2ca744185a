import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addressOfPeer, isLoopback, isWildcard, ownAddresses, plainAddress, urlHost } from './addresses.ts';

describe('addresses', () => {
  for (const [host, loopback, wildcard] of [
    ['127.0.0.1', true, false],
    ['127.5.6.7', true, false],
    ['::1', true, false],
    ['::ffff:127.0.0.1', true, false],
    ['localhost', true, false],
    ['LOCALHOST.', true, false],
    ['0.0.0.0', false, true],
    ['::', false, true],
    ['::ffff:0.0.0.0', false, true],
    ['0:0:0:0:0:0:0:0', false, true],
    ['10.0.0.1', false, false],
    ['::ffff:10.0.0.1', false, false],
    ['2001:db8::1', false, false],
    ['127.example.org', false, false],
    ['localhost.example.org', false, false],
    ['node-7', false, false],
  ] as const)
    test(`${host}: ${loopback ? 'loopback' : wildcard ? 'all addresses' : 'another host may reach it'}`, () => {
      assert.deepEqual([isLoopback(host), isWildcard(host)], [loopback, wildcard]);
    });

  test('the address of a peer is found in both families', () => {
    for (const [peer, address] of [
      ['10.1.2.3:4567', '10.1.2.3'],
      ['::ffff:10.1.2.3:4567', '10.1.2.3'],
      ['2001:db8::7:4567', '2001:db8::7'],
      ['this host', undefined],
      ['unknown:0', undefined],
      ['', undefined],
    ] as const)
      assert.equal(addressOfPeer(peer), address, peer);
  });

  test('an address stands in a URL with brackets where it is IPv6', () => {
    for (const host of ['10.0.0.1', '2001:db8::1', 'node-7', plainAddress('::ffff:10.0.0.1')])
      assert.ok(URL.canParse(`ws://${urlHost(host)}:1`), host);
  });

  test('own addresses are none that only this host reaches', () => {
    for (const address of ownAddresses()) assert.ok(!isLoopback(address) && !isWildcard(address), address);
  });
});
