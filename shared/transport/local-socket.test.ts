import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { testTransport } from './compliance.ts';
import { readLocality } from './local-socket.ts';
import type { Refusal, Transport } from './transport.ts';
import { webSocketTransport } from './websocket-transport.ts';

/** WebSockets dialled through the local socket only. */
const localTransport: Transport = {
  scheme: 'ws',
  listen: async (init) => {
    const listener = await webSocketTransport.listen({ ...init, localSocket: true });
    return { ...listener, url: listener.localUrl ?? 'no local socket' };
  },
  dial: webSocketTransport.dial.bind(webSocketTransport),
};

if (readLocality() === null) test('local sockets', { skip: 'this system has none' }, () => undefined);
else {
  testTransport('websocket over local sockets', () => localTransport);

  describe('local sockets', () => {
    test('a listener has its own local socket beside its port, only if requested', async () => {
      const init = { host: '127.0.0.1', port: 0, token: 't', onConnection: () => undefined };
      const [one, two, none] = await Promise.all([
        webSocketTransport.listen({ ...init, localSocket: true }),
        webSocketTransport.listen({ ...init, localSocket: true }),
        webSocketTransport.listen(init),
      ]);
      assert.match(one.localUrl!, /^ws\+local:\/\/exmix-[0-9a-f]{32}$/u);
      assert.notEqual(one.localUrl, two.localUrl);
      assert.equal(none.localUrl, null);
      for (const url of [one.url, one.localUrl!]) {
        const connection = await webSocketTransport.dial(url, { token: 't', timeoutMs: 5000 });
        connection.close('NORMAL', '');
        await connection.closed;
      }
      await Promise.all([one.close(), two.close(), none.close()]);
    });

    test('a refused socket is reported as one of this host', async () => {
      const refusals: Refusal[] = [];
      const listener = await localTransport.listen({
        host: '127.0.0.1',
        port: 0,
        token: 't',
        onConnection: () => undefined,
        onRefused: (refusal) => refusals.push(refusal),
      });
      await assert.rejects(localTransport.dial(listener.url, { token: 'wrong', timeoutMs: 5000 }), {
        code: 'AUTH_FAILED',
      });
      assert.deepEqual(
        refusals.map(({ remote, code }) => [remote, code]),
        [['this host', 'AUTH_FAILED']],
      );
      await listener.close();
    });
  });
}
