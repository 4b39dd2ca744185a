import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatDataAddress, parseDataAddress, planRoutes } from './data-address.ts';

const URL = 'ws://10.0.0.1:4000';
const LOCAL_URL = 'ws+local://exmix-12';

describe('the address of a data port', () => {
  test('a member of the same host gets the local socket first, another one TCP only', () => {
    const address = formatDataAddress(URL, 'host-a', LOCAL_URL);
    assert.equal(address, 'ws://10.0.0.1:4000#host-a/ws+local://exmix-12');
    assert.deepEqual(planRoutes(address, 'ws', 'host-a'), [LOCAL_URL, URL]);
    assert.deepEqual(planRoutes(address, 'ws', 'host-b'), [URL]);
    assert.deepEqual(planRoutes(address, 'ws', null), [URL]);
  });

  test('without a local socket, or without knowing the host, the address is the URL', () => {
    assert.equal(formatDataAddress(URL, 'host-a', null), URL);
    assert.equal(formatDataAddress(URL, null, LOCAL_URL), URL);
    assert.deepEqual(planRoutes(URL, 'ws', 'host-a'), [URL]);
  });

  for (const [address, host, port] of [
    ['ws://10.0.0.1:1', '10.0.0.1', 1],
    ['ws://node-7.cluster.local:65535', 'node-7.cluster.local', 65_535],
    ['ws://host:80', 'host', 80],
    ['ws://[2001:db8::1]:4000', '2001:db8::1', 4000],
  ] as const)
    test(`${address} is one`, () => {
      const { url, ...found } = parseDataAddress(address, 'ws');
      assert.deepEqual([url, found.host, found.port, found.local], [address, host, port, null]);
    });

  for (const [what, address] of [
    ['a path', 'ws://host:1/admin'],
    ['an empty path', 'ws://host:1/'],
    ['a query', 'ws://host:1?delete=all'],
    ['a path and a query', 'ws://10.0.0.1:1/any/path?any=query&x='],
    ['a login', 'ws://user:word@host:1'],
    ['a user', 'ws://user@host:1'],
    ['no port', 'ws://host'],
    ['port 0', 'ws://host:0'],
    ['a port with zeros before it', 'ws://host:080'],
    ['a port beyond 65535', 'ws://host:65536'],
    ['no host', 'ws://:1'],
    ['another scheme', 'http://host:1'],
    ['TLS, which no data port has', 'wss://host:1'],
    ['the scheme of a local socket', 'ws+local://exmix-1'],
    ['a host with an escape', 'ws://ho%2fst:1'],
    ['a space', 'ws://ho st:1'],
    ['a line feed', 'ws://host:1\n'],
    ['a space before it', ' ws://host:1'],
    ['a backslash', 'ws://host\\x:1'],
    ['an IPv6 address without brackets', 'ws://2001:db8::1:4000'],
    ['brackets without an IPv6 address', 'ws://[host]:1'],
    ['an IPv4 address that is none', 'ws://1.2.3.999:1'],
    ['a hint without content', `${URL}#`],
    ['a hint without a socket', `${URL}#host-a`],
    ['a hint without a place', `${URL}#/${LOCAL_URL}`],
    ['a hint with another URL', `${URL}#host-a/ws://10.0.0.2:1`],
    ['a hint with a socket of another program', `${URL}#host-a/ws+local://dbus`],
    ['a hint with a path', `${URL}#host-a/ws+local://exmix-1/x`],
    ['a second hint', `${URL}#host-a/${LOCAL_URL}#x`],
    ['nothing', ''],
  ] as const)
    test(`an address with ${what} is refused`, () => {
      assert.throws(() => parseDataAddress(address, 'ws'), {
        code: 'MESSAGE_INVALID',
        message: /expected ws:\/\/host:port without login, path or query/,
      });
      assert.throws(() => planRoutes(address, 'ws', 'host-a'), { code: 'MESSAGE_INVALID' });
    });

  test('any text is an address that names nothing but host and port, or is refused', () => {
    const part = fc.constantFrom(
      'ws',
      ':',
      '//',
      '@',
      '/',
      '?',
      '#',
      '[',
      ']',
      'a',
      '.',
      '-',
      '1',
      '%',
      '\\',
      ' ',
      '::1',
      'é',
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 14 }), (parts) => {
        const address = `ws://${parts.join('')}`;
        let url: string;
        try {
          ({ url } = parseDataAddress(address, 'ws'));
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'MESSAGE_INVALID');
          return;
        }
        const { username, password, pathname, search, hash } = new globalThis.URL(url);
        assert.deepEqual([username, password, pathname, search, hash], ['', '', '/', '', '']);
      }),
      { numRuns: 2_000 },
    );
  });
});
