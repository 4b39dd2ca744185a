import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { whyUnreachable, type JoinedAddress } from './check-reachable.ts';

const OWN = ['10.0.0.1', '2001:db8::1'];

function worker(workerId: string, peer: string, dataHost: string): JoinedAddress {
  return { workerId, peer, dataUrl: `ws://${dataHost}:4000#locality/ws+local://exmix-1` };
}

describe('whyUnreachable', () => {
  const LOCAL = worker('a', '127.0.0.1:5000', '127.0.0.1');
  const REMOTE = worker('b', '10.0.0.2:5000', '10.0.0.2');

  for (const [what, newcomer, others] of [
    ['workers of the coordinator’s host on loopback', LOCAL, [worker('c', '::1:5000', '[::1]')]],
    ['workers of two other hosts', REMOTE, [worker('c', '10.0.0.3:5000', '10.0.0.3')]],
    [
      'a worker of another host, beside one of this host with its outer address',
      REMOTE,
      [worker('c', '10.0.0.1:5', '10.0.0.1')],
    ],
    [
      'a loopback address that is dialled by the outer name of this host',
      worker('c', '::ffff:10.0.0.1:7', '127.0.0.1'),
      [LOCAL],
    ],
    ['a host name', worker('b', '10.0.0.2:5000', 'node-2'), [REMOTE]],
    ['a connection without an address', worker('b', 'memory', '127.0.0.1'), [LOCAL]],
  ] as const)
    test(`admits ${what}`, () => {
      assert.equal(whyUnreachable(newcomer, others, OWN), undefined);
    });

  for (const dataHost of ['127.0.0.1', 'localhost', '[::1]', '127.0.1.1'])
    test(`refuses ${dataHost} of a worker of another host, with the cure`, () => {
      for (const peer of ['10.0.0.2:5000', '::ffff:10.0.0.2:5000', '2001:db8::2:5000']) {
        const why = whyUnreachable(worker('b', peer, dataHost), [], OWN);
        assert.match(
          String(why),
          /^other hosts cannot reach a data port at .*: start this worker without --listen and --advertise$/u,
        );
      }
    });

  test('refuses workers that cannot reach each other, whichever comes first, and names the one to start again', () => {
    assert.equal(
      whyUnreachable(LOCAL, [REMOTE], OWN),
      'b cannot reach a data port at 127.0.0.1: give the name of the host in --url, or --listen',
    );
    assert.equal(
      whyUnreachable(REMOTE, [LOCAL], OWN),
      "out of reach: the data port of a at 127.0.0.1; start that one with its host's name in --url",
    );
  });
});
