import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDataAddress, planRoutes } from './data-address.ts';

const URL = 'ws://10.0.0.1:4000';
const LOCAL_URL = 'ws+local://exmix-12';

test('a member of the same host gets the local socket first, another one TCP only', () => {
  const address = formatDataAddress(URL, 'host-a', LOCAL_URL);
  assert.equal(address, 'ws://10.0.0.1:4000#host-a/ws+local://exmix-12');
  assert.deepEqual(planRoutes(address, 'host-a'), [LOCAL_URL, URL]);
  assert.deepEqual(planRoutes(address, 'host-b'), [URL]);
  assert.deepEqual(planRoutes(address, null), [URL]);
});

test('without a local socket, or without knowing the host, the address is the URL', () => {
  assert.equal(formatDataAddress(URL, 'host-a', null), URL);
  assert.equal(formatDataAddress(URL, null, LOCAL_URL), URL);
  assert.deepEqual(planRoutes(URL, 'host-a'), [URL]);
});

test('a hint that says nothing is passed over', () => {
  for (const hint of ['', 'host-a', '/']) assert.deepEqual(planRoutes(`${URL}#${hint}`, 'host-a'), [URL]);
});
