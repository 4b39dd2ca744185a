/**
 * The contract of Transport as one test suite, which the test file of every implementation runs.
 * `makeTransport` returns a new transport, which chooses all ports.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TrainerError } from '../errors.ts';
import { ManualClock } from '../manual-clock.fixture.ts';
import type { Challenge } from './mutual-proof.ts';
import { MAX_PINGS, type Connection, type DialInit, type Listener } from './transport.ts';
import type { ListenInit, Refusal, Transport } from './transport.ts';

const TOKEN = 'compliance-token';
const HOST = '127.0.0.1';

interface Pair {
  readonly transport: Transport;
  readonly listener: Listener;
  readonly near: Connection;
  readonly far: Connection;
  readonly close: () => Promise<void>;
}

export function testTransport(name: string, makeTransport: () => Transport): void {
  testProofs(name, makeTransport);
  const listen = async (
    transport: Transport,
    init: Partial<ListenInit> = {},
  ): Promise<{ listener: Listener; accepted: Connection[]; refusals: Refusal[] }> => {
    const accepted: Connection[] = [];
    const refusals: Refusal[] = [];
    const listener = await transport.listen({
      host: HOST,
      port: 0,
      token: TOKEN,
      onConnection: (connection) => accepted.push(connection),
      onRefused: (refusal) => refusals.push(refusal),
      ...init,
    });
    return { listener, accepted, refusals };
  };
  const dial = (transport: Transport, listener: Listener, init: Partial<DialInit> = {}): Promise<Connection> =>
    transport.dial(`${listener.url}/some/path?x=1`, { token: TOKEN, timeoutMs: 5000, ...init });

  async function openPair(listenInit: Partial<ListenInit> = {}, dialInit: Partial<DialInit> = {}): Promise<Pair> {
    const transport = makeTransport();
    const { listener, accepted } = await listen(transport, listenInit);
    const near = await dial(transport, listener, dialInit);
    const far = accepted[0]!;
    const close = async (): Promise<void> => {
      near.close('NORMAL', 'test is over');
      await Promise.all([near.closed, far.closed, listener.close()]);
    };
    return { transport, listener, near, far, close };
  }

  /** Resolves with the first `count` messages. */
  const collect = (connection: Connection, count: number): Promise<Buffer[]> =>
    new Promise((resolve) => {
      const messages: Buffer[] = [];
      connection.onMessage((data) => {
        messages.push(Buffer.from(data));
        if (messages.length === count) resolve(messages);
      });
    });

  describe(`${name}: messages`, () => {
    test('arrive in order and whole, as the concatenation of their parts, in both directions', async () => {
      const { near, far, close } = await openPair();
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        const received = collect(to, 100);
        const sends = Array.from({ length: 100 }, (_, i) =>
          from.send([Buffer.from(`${i}:`), Buffer.alloc(i * 7, i), Buffer.from('end')]),
        );
        await Promise.all(sends);
        for (const [i, message] of (await received).entries())
          assert.deepEqual(message, Buffer.concat([Buffer.from(`${i}:`), Buffer.alloc(i * 7, i), Buffer.from('end')]));
      }
      await close();
    });

    test('an empty and a maximal message pass', async () => {
      const { near, far, close } = await openPair({ limits: { maxMessageBytes: 300_000 } });
      const received = collect(far, 3);
      await near.send([]);
      await near.send([new Uint8Array(0)]);
      await near.send([Buffer.alloc(299_999, 1), Buffer.alloc(1, 2)]);
      const [first, second, third] = await received;
      assert.equal(first!.length, 0);
      assert.equal(second!.length, 0);
      assert.equal(third!.length, 300_000);
      assert.equal(third!.at(-1), 2);
      await close();
    });

    test('sending does not change the parts, and what is received is not the sender’s memory', async () => {
      const { near, far, close } = await openPair();
      const part = Buffer.from('unchanged');
      const received = collect(far, 1);
      await near.send([part]);
      const [message] = await received;
      assert.equal(part.toString(), 'unchanged');
      part.fill(0);
      assert.equal(message!.toString(), 'unchanged');
      await close();
    });

    test('messages sent before a handler is set wait for it', async () => {
      const { near, far, close } = await openPair();
      const sends = [near.send([Buffer.from('a')]), near.send([Buffer.from('b')])];
      await near.ping(2000).catch(() => undefined);
      const received = await collect(far, 2);
      await Promise.all(sends);
      assert.deepEqual(received.map(String), ['a', 'b']);
      await close();
    });

    test('a message over the receiver’s limit closes the connection with MESSAGE_TOO_LARGE; the listener still accepts others', async () => {
      const { transport, listener, near, far } = await openPair({ limits: { maxMessageBytes: 1000 } });
      const received: number[] = [];
      far.onMessage((data) => received.push(data.length));
      await near.send([Buffer.alloc(1001)]);
      assert.equal((await far.closed).error?.code, 'MESSAGE_TOO_LARGE');
      assert.equal((await near.closed).error?.code, 'MESSAGE_TOO_LARGE');
      assert.deepEqual(received, []);
      const again = await dial(transport, listener);
      assert.ok(again.isOpen);
      again.close('NORMAL', '');
      await Promise.all([again.closed, listener.close()]);
    });
  });

  describe(`${name}: back-pressure`, () => {
    test('to a peer that does not read ends in SEND_OVERFLOW by count', async () => {
      const { near, close } = await openPair({}, { limits: { maxQueuedMessages: 4 } });
      const codes = await sendUntilRefused(near, Buffer.alloc(64 << 10), 10_000);
      assert.equal(codes, 'SEND_OVERFLOW');
      assert.ok(near.isOpen, 'the sender decides what to do about it');
      await close();
    });

    test('to a peer that does not read ends in SEND_OVERFLOW by bytes', async () => {
      const { near, close } = await openPair({}, { limits: { maxQueuedBytes: 300_000 } });
      assert.equal(await sendUntilRefused(near, Buffer.alloc(100_000), 10_000), 'SEND_OVERFLOW');
      await assert.rejects(near.send([Buffer.alloc(400_000)]), { code: 'SEND_OVERFLOW' });
      await close();
    });

    test('an abort ends every send that waits', async () => {
      const { near, close } = await openPair();
      const stop = new AbortController();
      const outcomes: string[] = [];
      // The other side does not read: sends begin to wait when the buffers of the kernel are full.
      for (let numSent = 0; numSent - outcomes.length < 4; numSent++) {
        void outcomeOf(near.send([Buffer.alloc(64 << 10)], { signal: stop.signal })).then((code) =>
          outcomes.push(code),
        );
        await new Promise((resolve) => setImmediate(resolve));
      }
      stop.abort();
      await close(); // a send that still waits is CONNECTION_LOST now
      const failures = outcomes.filter((code) => code !== 'sent');
      assert.deepEqual(failures, ['ABORTED', 'ABORTED', 'ABORTED', 'ABORTED']);
    });

    test('a queued message is sent although its signal fires; an aborted signal sends nothing', async () => {
      const { near, far, close } = await openPair();
      const controller = new AbortController();
      const pending = outcomeOf(near.send([Buffer.from('first')], { signal: controller.signal }));
      controller.abort();
      assert.match(await pending, /^(sent|ABORTED)$/); // a transport may hand it over at once
      await assert.rejects(near.send([Buffer.from('never')], { signal: controller.signal }), { code: 'ABORTED' });
      const received = collect(far, 2);
      await near.send([Buffer.from('last')]);
      assert.deepEqual((await received).map(String), ['first', 'last']);
      await close();
    });
  });

  describe(`${name}: the end`, () => {
    test('a close from either side sends code and reason to the other', async () => {
      for (const side of ['near', 'far'] as const) {
        const pair = await openPair();
        const [closing, other] = side === 'near' ? [pair.near, pair.far] : [pair.far, pair.near];
        closing.close('FRAME_STALE', 'of generation 6');
        closing.close('NORMAL', 'a second time');
        const info = await other.closed;
        assert.equal(info.code, 4005);
        assert.equal(info.reason, 'of generation 6');
        assert.equal(info.error?.code, 'FRAME_STALE');
        assert.equal((await closing.closed).error?.code, 'FRAME_STALE');
        assert.ok(!closing.isOpen && !other.isOpen);
        await pair.listener.close();
      }
    });

    test('a normal close is no error; sending afterwards is CONNECTION_LOST', async () => {
      const { near, far, listener } = await openPair();
      near.close('NORMAL', 'done');
      const info = await far.closed;
      assert.equal(info.code, 1000);
      assert.equal(info.error, undefined);
      for (const connection of [near, far]) {
        await assert.rejects(connection.send([Buffer.from('x')]), { code: 'CONNECTION_LOST' });
        await assert.rejects(connection.ping(1000), { code: 'CONNECTION_LOST' });
      }
      await listener.close();
    });

    test('a reason of any length and script is cut, not an error', async () => {
      const { near, far, listener } = await openPair();
      near.close('INTERNAL', 'ü'.repeat(500));
      assert.equal((await far.closed).reason, '?'.repeat(120));
      await listener.close();
    });

    test('closing the listener closes its connections; a second close does nothing', async () => {
      const { transport, listener, near } = await openPair();
      await listener.close();
      await near.closed;
      await listener.close();
      await assert.rejects(dial(transport, listener), { code: 'CONNECT_FAILED' });
    });

    test('a ping comes back', async () => {
      const { near, far, close } = await openPair();
      assert.ok((await near.ping(5000)) >= 0);
      assert.ok((await far.ping(5000)) >= 0);
      await close();
    });

    test('an abort ends a ping that is under way, and an aborted signal sends none', async () => {
      const { near, close } = await openPair();
      const controller = new AbortController();
      const pending = near.ping(60_000, controller.signal);
      controller.abort();
      await assert.rejects(pending, { code: 'ABORTED' });
      await assert.rejects(near.ping(60_000, controller.signal), { code: 'ABORTED' });
      assert.ok((await near.ping(60_000)) >= 0);
      await close();
    });

    test('pings without an answer are bounded in number: one more is SEND_OVERFLOW', async () => {
      const { near, close } = await openPair();
      const pings = Array.from({ length: MAX_PINGS + 1 }, () => near.ping(60_000));
      const outcomes = await Promise.allSettled(pings);
      const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
      assert.deepEqual(
        refused.map((error) => (error as TrainerError).code),
        ['SEND_OVERFLOW'],
      );
      assert.ok((await near.ping(60_000)) >= 0);
      await close();
    });

    test('a handler is set once', async () => {
      const { near, close } = await openPair();
      near.onMessage(() => undefined);
      assert.throws(() => near.onMessage(() => undefined), { code: 'INTERNAL' });
      await close();
    });
  });

  describe(`${name}: admission`, () => {
    test('both sides have the path', async () => {
      const { near, far, close } = await openPair();
      assert.equal(near.path, '/some/path?x=1');
      assert.equal(far.path, '/some/path?x=1');
      await close();
    });

    test('a wrong token is AUTH_FAILED and reported, and onConnection is not called', async () => {
      const transport = makeTransport();
      const { listener, accepted, refusals } = await listen(transport);
      for (const token of ['', 'wrong', `${TOKEN}x`])
        await assert.rejects(dial(transport, listener, { token }), { code: 'AUTH_FAILED' });
      assert.equal(accepted.length, 0);
      assert.deepEqual(
        refusals.map(({ code }) => code),
        ['AUTH_FAILED', 'AUTH_FAILED', 'AUTH_FAILED'],
      );
      await listener.close();
    });

    test('a listener without a token admits nobody', async () => {
      const transport = makeTransport();
      const { listener } = await listen(transport, { token: '' });
      await assert.rejects(dial(transport, listener, { token: '' }), { code: 'AUTH_FAILED' });
      await listener.close();
    });

    test('a path that is not admitted is CONNECT_FAILED with the reason, and retryable', async () => {
      const transport = makeTransport();
      let isOpen = false;
      const { listener, refusals } = await listen(transport, { admit: () => (isOpen ? null : 'not yet open') });
      await assert.rejects(dial(transport, listener), {
        code: 'CONNECT_FAILED',
        message: /not yet open/,
        retryable: true,
      });
      assert.deepEqual(
        refusals.map(({ code, reason }) => [code, reason]),
        [['JOIN_REFUSED', 'not yet open']],
      );
      isOpen = true;
      const near = await dial(transport, listener);
      near.close('NORMAL', '');
      await Promise.all([near.closed, listener.close()]);
    });

    test('an address where nobody listens is CONNECT_FAILED, a wrong address CONFIG_INVALID, an abort ABORTED', async () => {
      const transport = makeTransport();
      const { listener } = await listen(transport);
      await assert.rejects(dial(transport, listener, { signal: AbortSignal.abort() }), { code: 'ABORTED' });
      await listener.close();
      await assert.rejects(dial(transport, listener), { code: 'CONNECT_FAILED' });
      for (const url of ['', 'no url', 'ftp://127.0.0.1/'])
        await assert.rejects(transport.dial(url, { token: TOKEN, timeoutMs: 1000 }), { code: 'CONFIG_INVALID' });
    });

    test('a first message over its limit closes the connection with MESSAGE_TOO_LARGE; a later one may be larger', async () => {
      const limits = { maxFirstMessageBytes: 100 };
      const one = await openPair({ limits });
      const received: number[] = [];
      one.far.onMessage((data) => received.push(data.length));
      await one.near.send([Buffer.alloc(101)]);
      assert.equal((await one.far.closed).error?.code, 'MESSAGE_TOO_LARGE');
      assert.deepEqual(received, []);
      await Promise.all([one.near.closed, one.listener.close()]);
      const two = await openPair({ limits });
      const both = collect(two.far, 2);
      await two.near.send([Buffer.alloc(100)]);
      await two.near.send([Buffer.alloc(100_000)]);
      assert.deepEqual(
        (await both).map(({ length }) => length),
        [100, 100_000],
      );
      await two.close();
    });

    test('a port that is taken is PORT_IN_USE', async () => {
      const transport = makeTransport();
      const { listener } = await listen(transport);
      await assert.rejects(listen(transport, { port: listener.port }), { code: 'PORT_IN_USE' });
      await listener.close();
    });
  });
}

const SECRET = Buffer.alloc(32, 1);
const OTHER_SECRET = Buffer.alloc(32, 2);

function testProofs(name: string, makeTransport: () => Transport): void {
  const accepted: Connection[] = [];
  const refusals: Refusal[] = [];
  const listen = (transport: Transport, challenge: (path: string) => Challenge | string): Promise<Listener> => {
    accepted.length = 0;
    refusals.length = 0;
    return transport.listen({
      ...{ host: HOST, port: 0, challenge },
      onConnection: (connection) => accepted.push(connection),
      onRefused: (refusal) => refusals.push(refusal),
    });
  };
  /** Resolves when the listener has accepted so many connections. */
  const acceptedAll = async (count: number): Promise<void> => {
    while (accepted.length < count) await new Promise((resolve) => setImmediate(resolve));
  };

  describe(`${name}: proofs of a secret`, () => {
    test('both sides that have it are connected, and the dialler gets the greeting of the path', async () => {
      const transport = makeTransport();
      const listener = await listen(transport, (path) => ({ secret: SECRET, greeting: `you asked for ${path}` }));
      const near = await transport.dial(`${listener.url}/a/path`, { secret: SECRET, timeoutMs: 5000 });
      assert.equal(near.greeting, 'you asked for /a/path');
      const sent = near.send([Buffer.from('first')]);
      await acceptedAll(1);
      const [far] = accepted;
      const first = new Promise<Uint8Array>((resolve) => far!.onMessage(resolve));
      await sent;
      assert.equal(Buffer.from(await first).toString(), 'first', 'the proof is no message');
      const answer = new Promise<Uint8Array>((resolve) => near.onMessage(resolve));
      await far!.send([Buffer.from('answer')]);
      assert.equal(Buffer.from(await answer).toString(), 'answer');
      near.close('NORMAL', '');
      await Promise.all([near.closed, far!.closed, listener.close()]);
      assert.deepEqual(refusals, []);
    });

    test('a side with another secret is AUTH_FAILED, and the listener accepts nobody', async () => {
      const transport = makeTransport();
      const listener = await listen(transport, () => ({ secret: SECRET, greeting: '' }));
      await assert.rejects(transport.dial(listener.url, { secret: OTHER_SECRET, timeoutMs: 5000 }), {
        code: 'AUTH_FAILED',
        message: /has not proved the secret/,
      });
      await assert.rejects(transport.dial(listener.url, { token: TOKEN, timeoutMs: 5000 }), { code: 'AUTH_FAILED' });
      assert.equal(accepted.length, 0);
      await listener.close();
    });

    test('a listener that wants the token is AUTH_FAILED for a dialler that proves a secret', async () => {
      const transport = makeTransport();
      const onConnection = (connection: Connection): void => void accepted.push(connection);
      accepted.length = 0;
      const listener = await transport.listen({ host: HOST, port: 0, token: TOKEN, onConnection });
      await assert.rejects(transport.dial(listener.url, { secret: SECRET, timeoutMs: 5000 }), { code: 'AUTH_FAILED' });
      assert.equal(accepted.length, 0);
      await listener.close();
    });

    test('a path that is not admitted is CONNECT_FAILED with the reason, and retryable', async () => {
      const transport = makeTransport();
      const listener = await listen(transport, (path) =>
        path === '/now' ? { secret: SECRET, greeting: '' } : 'not yet open',
      );
      await assert.rejects(transport.dial(`${listener.url}/later`, { secret: SECRET, timeoutMs: 5000 }), {
        code: 'CONNECT_FAILED',
        message: /not yet open/,
        retryable: true,
      });
      assert.deepEqual(
        refusals.map(({ code, reason }) => [code, reason]),
        [['JOIN_REFUSED', 'not yet open']],
      );
      const near = await transport.dial(`${listener.url}/now`, { secret: SECRET, timeoutMs: 5000 });
      near.close('NORMAL', '');
      await Promise.all([near.closed, listener.close()]);
    });
  });
}

/** `sent`, or the code of the failure. */
function outcomeOf(send: Promise<void>): Promise<string> {
  return send.then(
    () => 'sent',
    (error: unknown) => (error as TrainerError).code,
  );
}

/** The part of the contract that a transport with a time of its own does not have: the clock of its init measures its pings. */
export function testPingClock(name: string, makeTransport: () => Transport): void {
  test(`${name}: the clock that was given measures a ping, and its deadline`, async () => {
    const transport = makeTransport();
    const clock = new ManualClock();
    let far: Connection | undefined;
    const onConnection = (connection: Connection): void => void (far = connection);
    const listener = await transport.listen({ host: HOST, port: 0, token: TOKEN, onConnection, clock });
    const near = await transport.dial(listener.url, { token: TOKEN, timeoutMs: 5000, clock });
    for (const connection of [near, far!]) {
      assert.equal(await connection.ping(1000), 0);
      // Time passes before the event loop turns: no answer can have come.
      const late = assert.rejects(connection.ping(1000), { code: 'CONNECT_FAILED', message: /within 1000 ms/ });
      await Promise.all([clock.advance(1000), late]);
    }
    await listener.close();
  });
}

/** Sends without waiting until a send is refused at once; the code of that refusal. */
async function sendUntilRefused(connection: Connection, message: Buffer, limit: number): Promise<string | null> {
  const codes: string[] = [];
  for (let i = 0; i < limit && codes.length === 0; i++) {
    connection.send([message]).catch((error: unknown) => codes.push((error as TrainerError).code));
    if (i % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return codes[0] ?? null;
}
