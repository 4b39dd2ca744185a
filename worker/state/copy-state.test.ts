import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { toTrainerError, type TrainerError } from '../../shared/errors.ts';
import { readLocality } from '../../shared/transport/local-socket.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import type { SocketKind } from '../mesh/connect-mesh.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import { decodePieceHeader, encodePieceHeader, PIECE_HEADER_BYTES, STATE_WINDOW } from './state-frames.ts';
import { planPieces, type StateTensors } from './state-pieces.ts';
import { StateServer } from './state-server.ts';
import {
  assertSameState,
  copyFrom,
  makeFilledState,
  makeState,
  openHost,
  playHolder,
  replyTo,
  serveAt,
  SIZES,
  STEP,
  WHOLE,
  type Host,
  type Reply,
  type StateSizes,
} from './state.fixture.ts';

interface Kind {
  readonly name: string;
  readonly socket: SocketKind;
  readonly makeTransport: () => Transport;
}

const kinds: Kind[] = [
  { name: 'memory', socket: 'auto', makeTransport: () => new MemoryTransport() },
  { name: 'WebSockets', socket: 'tcp', makeTransport: () => webSocketTransport },
  { name: 'local sockets', socket: 'auto', makeTransport: () => webSocketTransport },
];

const state = makeFilledState(SIZES);
const { pieces, numBytes } = planPieces(state);

async function openHosts(transport: Transport, numHosts: number): Promise<Host[]> {
  return Promise.all(Array.from({ length: numHosts }, (_, i) => openHost(transport, i + 1)));
}

async function close(hosts: readonly Host[]): Promise<void> {
  await Promise.all(hosts.map(({ port }) => port.close()));
}

function serve(host: Host, tensors: StateTensors, step = STEP): void {
  const server = new StateServer();
  server.offer({ step, tensors });
  serveAt(host, server.serve);
}

for (const { name, socket, makeTransport } of kinds)
  describe(`copyState over ${name}`, () => {
    test('gives the bytes of the holder', async () => {
      const transport = makeTransport();
      const hosts = await openHosts(transport, 1);
      serve(hosts[0]!, state);
      const into = makeState(SIZES);
      const { ms, ...copied } = await copyFrom(transport, hosts, into, { socket });
      assert.deepEqual(copied, { numBytes });
      assert.ok(ms > 0);
      assertSameState(into, state);
      await close(hosts);
    });

    test('gives the bytes of the holder for any tensors', async () => {
      const size = fc.oneof(fc.nat(50), fc.constantFrom(WHOLE - 1, WHOLE, WHOLE + 1, 2 * WHOLE));
      const set = fc.dictionary(fc.string({ maxLength: 4 }), size, { maxKeys: 4 });
      const transport = makeTransport();
      await fc.assert(
        fc.asyncProperty(set, set, fc.integer({ min: 1, max: 3 }), async (parameters, optimizerSlots, numHosts) => {
          const sizes: StateSizes = { parameters, optimizerSlots };
          const held = makeFilledState(sizes);
          const hosts = await openHosts(transport, numHosts);
          for (const host of hosts) serve(host, held);
          const into = makeState(sizes);
          await copyFrom(transport, hosts, into, { socket });
          assertSameState(into, held);
          await close(hosts);
        }),
        { numRuns: 20 },
      );
    });

    test('asks all holders at the same time', async () => {
      const transport = makeTransport();
      const hosts = await openHosts(transport, 3);
      const servers: StateServer[] = [];
      const connections: Connection[] = [];
      for (const host of hosts) {
        const server = new StateServer();
        servers.push(server);
        serveAt(host, (connection, rank) => {
          connections.push(connection);
          server.serve(connection, rank);
          // Nobody has the state before all were asked: 12 of the 13 pieces are dealt by then.
          if (connections.length === 3) for (const each of servers) each.offer({ step: STEP, tensors: state });
        });
      }
      const into = makeState(SIZES);
      await copyFrom(transport, hosts, into, { socket });
      assertSameState(into, state);
      const ends = await Promise.all(connections.map(({ closed }) => closed));
      assert.deepEqual(
        ends.map(({ reason }) => reason),
        Array.from({ length: 3 }, () => 'the state is copied'),
      );
      await close(hosts);
    });

    test('waits for a holder that learns of the generation later', async () => {
      const transport = makeTransport();
      let numRefusals = 0;
      const host = await openHost(transport, 1, () => {
        if (++numRefusals === 2) serve(host, state);
      });
      const into = makeState(SIZES);
      await copyFrom(transport, [host], into, { socket });
      assertSameState(into, state);
      await close([host]);
    });

    /** Answers three requests, then breaks the connection off. */
    const playDying = (host: Host): void => {
      let numAsked = 0;
      playHolder(host, (request, connection) => {
        if (++numAsked <= 3) return replyTo(state, request);
        connection.close('INTERNAL', 'the worker dies');
        return null;
      });
    };

    test('requests from the others the pieces that a dying holder has not sent', async () => {
      const transport = makeTransport();
      const hosts = await openHosts(transport, 2);
      const warnings: TrainerError[] = [];
      playDying(hosts[0]!);
      // The other one is there only after the first has died.
      const into = makeState(SIZES);
      const onWarning = (error: TrainerError): void => {
        warnings.push(error);
        serve(hosts[1]!, state);
      };
      await copyFrom(transport, hosts, into, { socket, onWarning });
      assertSameState(into, state);
      assert.equal(warnings.length, 1);
      assert.match(
        warnings[0]!.message,
        /^state of step 412 for rank 0 .*3 of 13 pieces copied\): rank 1: .*worker dies/,
      );
      await close(hosts);
    });

    test('fails with the end of the last holder', async () => {
      const transport = makeTransport();
      const hosts = await openHosts(transport, 1);
      serveAt(hosts[0]!, (connection) =>
        connection.onMessage(() => connection.close('NORMAL', 'the state is withdrawn')),
      );
      await assert.rejects(copyFrom(transport, hosts, makeState(SIZES), { socket }), {
        code: 'CONNECTION_LOST',
        message: /0 of 13 pieces copied\): rank 1: the connection was closed \(1000\): the state is withdrawn/,
      });
      await close(hosts);
    });

    test('leaves a holder that has another step or model, and fails where all have', async () => {
      const transport = makeTransport();
      const hosts = await openHosts(transport, 2);
      serve(hosts[0]!, state, STEP - 1);
      serve(hosts[1]!, makeState({ ...SIZES, optimizerSlots: {} }));
      const codes: string[] = [];
      const onWarning = ({ code }: TrainerError): number => codes.push(code);
      const failed = await copyFrom(transport, hosts, makeState(SIZES), { socket, onWarning }).then(
        () => assert.fail('copied'),
        toTrainerError,
      );
      assert.deepEqual([...codes, failed.code].sort(), ['FRAME_INVALID', 'FRAME_STALE']);
      await close(hosts);
    });
  });

describe('copyState', () => {
  test('does nothing for an empty state, and dials nobody', async () => {
    const into = makeState({ parameters: { empty: 0 }, optimizerSlots: {} });
    const { numBytes: copied } = await copyFrom(new MemoryTransport(), [{ rank: 1, url: 'memory://no:1' }], into);
    assert.equal(copied, 0);
  });

  test('is INTERNAL without a holder', async () => {
    await assert.rejects(copyFrom(new MemoryTransport(), [], makeState(SIZES)), { code: 'INTERNAL' });
  });

  test('gives up at once where the holder has another secret', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 1);
    serve(hosts[0]!, state);
    await assert.rejects(copyFrom(transport, hosts, makeState(SIZES), { secret: Buffer.alloc(32, 6) }), {
      code: 'AUTH_FAILED',
      message: /rank 1: .*has not proved the secret of the generation/,
    });
    await close(hosts);
  });

  test('uses TCP when nobody answers at the local socket', { skip: readLocality() === null }, async () => {
    const hosts = await openHosts(webSocketTransport, 1);
    serve(hosts[0]!, state);
    const [host] = hosts.map(({ rank, url }) => ({ rank, url: url.replace(/exmix-\w+$/, 'exmix-nobody') }));
    assert.notEqual(host!.url, hosts[0]!.url);
    const into = makeState(SIZES);
    await copyFrom(webSocketTransport, [host!], into);
    assertSameState(into, state);
    await close(hosts);
  });

  test('never has more requests under way with a holder than the window', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 2);
    const most = new Map<number, number>();
    for (const host of hosts) {
      let numUnderWay = 0;
      playHolder(host, (request, connection) => {
        most.set(host.rank, Math.max(++numUnderWay, most.get(host.rank) ?? 0));
        const answer = async (): Promise<void> => {
          for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate); // whatever else was asked has come by then
          numUnderWay--;
          await connection.send(replyTo(state, request));
        };
        answer().catch(() => undefined);
        return null;
      });
    }
    const into = makeState(SIZES);
    await copyFrom(transport, hosts, into);
    assertSameState(into, state);
    assert.deepEqual([...most.values()], [STATE_WINDOW, STATE_WINDOW]);
    await close(hosts);
  });
});

describe('a piece with a wrong checksum', () => {
  const BAD = 11;

  /** Every request for `BAD` is counted; the first `numSpoiled` answers to it have a flipped bit. */
  function playSpoiling(host: Host, numSpoiled: number): { numAsked: number } {
    const count = { numAsked: 0 };
    playHolder(host, (request): Reply => {
      const reply = replyTo(state, request);
      if (request.piece !== BAD || ++count.numAsked > numSpoiled) return reply;
      const payload = Buffer.from(reply[1]!);
      payload[77]! ^= 4;
      return [reply[0]!, payload];
    });
    return count;
  }

  test('is asked for again', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 1);
    const count = playSpoiling(hosts[0]!, 2);
    const into = makeState(SIZES);
    const warnings: string[] = [];
    await copyFrom(transport, hosts, into, { onWarning: ({ message }) => warnings.push(message) });
    assertSameState(into, state);
    assert.equal(count.numAsked, 3);
    assert.equal(warnings.length, 2);
    assert.match(warnings[0]!, /rank 1: piece 11 \(optimizer slot shared.weight, .*it is asked for again/);
    await close(hosts);
  });

  test('three times is FRAME_INVALID by rank, piece and tensor, and nothing of it is written', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 1);
    const count = playSpoiling(hosts[0]!, Infinity);
    const into = makeState(SIZES);
    await assert.rejects(copyFrom(transport, hosts, into), {
      code: 'FRAME_INVALID',
      message: /rank 1: piece 11 \(optimizer slot shared.weight, 1048576 B at 0\): expected crc32 .* 3 times/,
    });
    assert.equal(count.numAsked, 3);
    assert.ok(planPieces(into).pieces[BAD]!.bytes.every((byte) => byte === 0));
    await close(hosts);
  });

  test('three times is asked of another holder', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 2);
    playSpoiling(hosts[0]!, Infinity);
    const into = makeState(SIZES);
    const codes: string[] = [];
    const onWarning = ({ code, message }: TrainerError): void => {
      codes.push(code);
      if (message.includes('3 times')) serve(hosts[1]!, state);
    };
    await copyFrom(transport, hosts, into, { onWarning });
    assertSameState(into, state);
    assert.deepEqual(codes, ['FRAME_INVALID', 'FRAME_INVALID', 'FRAME_INVALID']);
    await close(hosts);
  });
});

describe('a hostile holder', () => {
  const change = ([header, payload]: Reply, fields: object): Reply => [
    encodePieceHeader({ ...decodePieceHeader(header!), ...fields }),
    payload!,
  ];
  const attacks: [string, (reply: Reply) => Reply, string, RegExp][] = [
    ['another step', (reply) => change(reply, { step: STEP + 1 }), 'FRAME_STALE', /expected step 412, got step 413/],
    [
      'a piece not asked for',
      (reply) => change(reply, { piece: 9 }),
      'FRAME_INVALID',
      /piece 9 .* without being asked/,
    ],
    ['what is no piece', (reply) => change(reply, { piece: 13 }), 'FRAME_INVALID', /piece 13 .* without being asked/],
    ['another length', (reply) => change(reply, { byteLength: 8 }), 'FRAME_INVALID', /piece 0 .*got 8 B announced/],
    ['a shorter payload', ([header, payload]) => [header!, payload!.subarray(4)], 'FRAME_INVALID', /1048572 B sent/],
    ['a longer payload', ([header, payload]) => [header!, payload!, Buffer.alloc(1)], 'MESSAGE_TOO_LARGE', /./],
    [
      'a flipped header',
      ([header, payload]) => [Buffer.from(header!).fill(7, 8, 9), payload!],
      'FRAME_INVALID',
      /crc32/,
    ],
    ['no header', () => [Buffer.from('hello')], 'FRAME_INVALID', /expected byte length 28, got 5/],
    ['nothing', () => [], 'FRAME_INVALID', /expected byte length 28, got 0/],
    ['an endless message', () => [Buffer.alloc(PIECE_HEADER_BYTES + 2 ** 20 + 1)], 'MESSAGE_TOO_LARGE', /./],
  ];
  for (const [name, attack, code, message] of attacks)
    test(`that sends ${name} is left with ${code}`, async () => {
      const transport = new MemoryTransport();
      const hosts = await openHosts(transport, 1);
      const ends: Promise<string | undefined>[] = [];
      playHolder(hosts[0]!, (request, connection) => {
        ends.push(connection.closed.then(({ error }) => error?.code));
        return attack(replyTo(state, request));
      });
      const into = makeState(SIZES);
      await assert.rejects(copyFrom(transport, hosts, into), { code, message });
      assert.equal(await ends[0], code, 'it is told why');
      assertSameState(into, makeState(SIZES));
      await close(hosts);
    });

  test('that sends a piece twice is left with FRAME_INVALID', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 1);
    playHolder(hosts[0]!, (request, connection) => {
      connection.send(replyTo(state, request)).catch(() => undefined);
      return replyTo(state, request);
    });
    await assert.rejects(copyFrom(transport, hosts, makeState(SIZES)), {
      code: 'FRAME_INVALID',
      message: /1 of 13 pieces copied\): rank 1: piece 0 of the state came without being asked for/,
    });
    await close(hosts);
  });
});

describe('an abort', () => {
  test('ends a copy under way, and its connections', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 1);
    const controller = new AbortController();
    const cause = new Error('the generation is over');
    const ends: Promise<unknown>[] = [];
    playHolder(hosts[0]!, (_, connection) => {
      ends.push(connection.closed);
      controller.abort(cause);
      return null;
    });
    await assert.rejects(copyFrom(transport, hosts, makeState(SIZES), { signal: controller.signal }), {
      code: 'ABORTED',
      message: /0 of 13 pieces copied\): copying was aborted/,
      cause,
    });
    await ends[0];
    await close(hosts);
  });

  test('ends the wait for an absent holder; an earlier signal dials nobody', async () => {
    for (const { makeTransport } of kinds) {
      const transport = makeTransport();
      const controller = new AbortController();
      const host = await openHost(transport, 1, () => controller.abort());
      const init = { signal: controller.signal };
      await assert.rejects(copyFrom(transport, [host], makeState(SIZES), init), { code: 'ABORTED' });
      const numRefusals = host.refusals.length;
      await assert.rejects(copyFrom(transport, [host], makeState(SIZES), init), { code: 'ABORTED' });
      assert.equal(host.refusals.length, numRefusals);
      await close([host]);
    }
  });
});

test('a copy that is over leaves nothing on its signal', async () => {
  const transport = new MemoryTransport();
  const hosts = await openHosts(transport, 1);
  serve(hosts[0]!, state);
  const { signal } = new AbortController();
  await copyFrom(transport, hosts, makeState(SIZES), { signal });
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  await close(hosts);
});

describe('the deadline', () => {
  const TIMEOUT_MS = 1000;

  /** Gives the error, or null while there is none. */
  function watch(copying: Promise<unknown>): () => TrainerError | null {
    let found: TrainerError | null = null;
    copying.catch((error: unknown) => (found = toTrainerError(error)));
    return () => found;
  }

  test('is CONNECT_FAILED with the reason where no holder could be reached', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 1);
    const clock = new ManualClock();
    const failure = watch(copyFrom(transport, hosts, makeState(SIZES), { clock, timeoutMs: TIMEOUT_MS }));
    await clock.advance(0);
    await clock.advance(TIMEOUT_MS - 1);
    assert.equal(failure(), null);
    await clock.advance(1);
    assert.equal(failure()?.code, 'CONNECT_FAILED');
    assert.match(failure()!.message, /within 1000 ms nothing came from rank 1 at memory.*no state is served here/);
    assert.equal(clock.numSleeping, 0);
    await close(hosts);
  });

  test('is COLLECTIVE_TIMEOUT where those reached are silent, counted from the last sign of any', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 2);
    const clock = new ManualClock();
    const pending: (() => void)[] = [];
    playHolder(hosts[0]!, () => null);
    playHolder(hosts[1]!, (request, connection) => {
      pending.push(() => void connection.send(replyTo(state, request)));
      return null;
    });
    const failure = watch(copyFrom(transport, hosts, makeState(SIZES), { clock, timeoutMs: TIMEOUT_MS }));
    await clock.advance(0);
    await clock.advance(400);
    pending.shift()!();
    await clock.advance(0);
    await clock.advance(TIMEOUT_MS - 1);
    assert.equal(failure(), null);
    await clock.advance(1);
    assert.equal(failure()?.code, 'COLLECTIVE_TIMEOUT');
    assert.match(failure()!.message, /1 of 13 pieces .*rank 1 \(asked for 4 pieces\), rank 2 \(asked for 4 pieces\)/);
    assert.equal(clock.numSleeping, 0);
    await close(hosts);
  });

  test('half of it without a sign, and a holder is left for one that answers', async () => {
    const transport = new MemoryTransport();
    const hosts = await openHosts(transport, 2);
    const clock = new ManualClock();
    const warnings: TrainerError[] = [];
    let numAnswered = 0;
    const allAnswered = new Promise<void>((resolve) => {
      playHolder(hosts[0]!, () => null);
      playHolder(hosts[1]!, (request) => {
        if (++numAnswered === pieces.length - STATE_WINDOW) resolve();
        return replyTo(state, request);
      });
    });
    const into = makeState(SIZES);
    const onWarning = (error: TrainerError): number => warnings.push(error);
    const copying = copyFrom(transport, hosts, into, { clock, timeoutMs: TIMEOUT_MS, onWarning });
    await allAnswered;
    await clock.advance(TIMEOUT_MS / 2 - 1);
    assert.equal(warnings.length, 0);
    await clock.advance(1);
    await clock.advance(TIMEOUT_MS / 8);
    await copying;
    assertSameState(into, state);
    assert.equal(numAnswered, pieces.length);
    assert.equal(warnings.length, 1);
    assert.equal(warnings[0]!.code, 'COLLECTIVE_TIMEOUT');
    assert.match(warnings[0]!.message, /9 of 13 .*rank 1: it was asked and sent nothing for 500 ms/);
    await close(hosts);
  });
});
