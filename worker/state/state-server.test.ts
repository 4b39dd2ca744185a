import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TrainerError } from '../../shared/errors.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { CloseInfo, Connection } from '../../shared/transport/transport.ts';
import { formatStatePath } from '../mesh/data-port.ts';
import { decodePieceHeader, encodeStateRequest, PIECE_HEADER_BYTES, STATE_WINDOW } from './state-frames.ts';
import { planPieces } from './state-pieces.ts';
import { StateServer } from './state-server.ts';
import { GENERATION, makeFilledState, openHost, serveAt, SIZES, STEP, SECRET, type Host } from './state.fixture.ts';

const state = makeFilledState(SIZES);
const { pieces, layout } = planPieces(state);
const HOLDER = 3;

interface World {
  readonly server: StateServer;
  readonly host: Host;
  readonly warnings: TrainerError[];
  readonly dial: (rank: number) => Promise<Peer>;
  readonly signal: AbortController;
}

interface Peer {
  readonly connection: Connection;
  readonly ask: (piece: number, more?: { step?: number; layout?: number }) => Promise<void>;
  /** Resolves with the next answer. */
  readonly answer: () => Promise<{ piece: number; payload: Buffer }>;
}

async function openWorld(): Promise<World> {
  const transport = new MemoryTransport();
  const host = await openHost(transport, HOLDER);
  const warnings: TrainerError[] = [];
  const signal = new AbortController();
  const server = new StateServer({ onWarning: (error) => warnings.push(error), signal: signal.signal });
  serveAt(host, server.serve);
  const dial = async (rank: number): Promise<Peer> => {
    const url = host.port.url + formatStatePath(GENERATION, HOLDER, rank);
    const connection = await transport.dial(url, { secret: SECRET, timeoutMs: 2000 });
    const came: Uint8Array[] = [];
    const wanted: ((message: Uint8Array) => void)[] = [];
    connection.onMessage((message) => {
      const want = wanted.shift();
      if (want === undefined) came.push(message);
      else want(message);
    });
    const next = (): Promise<Uint8Array> =>
      new Promise((resolve) => {
        const message = came.shift();
        if (message === undefined) wanted.push(resolve);
        else resolve(message);
      });
    return {
      connection,
      ask: (piece, more) => connection.send([encodeStateRequest({ step: STEP, piece, layout, ...more })]),
      answer: async () => {
        const message = await next();
        const { piece, step } = decodePieceHeader(message.subarray(0, PIECE_HEADER_BYTES));
        assert.equal(step, STEP);
        return { piece, payload: Buffer.from(message.subarray(PIECE_HEADER_BYTES)) };
      },
    };
  };
  return { server, host, warnings, dial, signal };
}

describe('StateServer', () => {
  test('answers requests in their order, also those that came before the state was at hand', async () => {
    const { server, host, warnings, dial } = await openWorld();
    const early = await dial(0);
    for (const piece of [12, 0, 7, 7]) await early.ask(piece);
    server.offer({ step: STEP, tensors: state });
    const late = await dial(1);
    await late.ask(3);
    for (const piece of [12, 0, 7, 7]) {
      const found = await early.answer();
      assert.equal(found.piece, piece);
      assert.ok(found.payload.equals(pieces[piece]!.bytes));
    }
    assert.ok((await late.answer()).payload.equals(pieces[3]!.bytes));
    assert.deepEqual(warnings, []);
    await host.port.close();
  });

  test('lets no more requests wait than a window', async () => {
    const { server, host, warnings, dial } = await openWorld();
    const peer = await dial(0);
    for (let piece = 0; piece < STATE_WINDOW; piece++) await peer.ask(piece);
    await peer.connection.ping(2000);
    assert.ok(peer.connection.isOpen);
    await peer.ask(STATE_WINDOW);
    assert.equal((await peer.connection.closed).error?.code, 'SEND_OVERFLOW');
    assert.match(warnings[0]!.message, /rank 0, which copies the state: expected at most 4 state requests/);
    server.offer({ step: STEP, tensors: state });
    await host.port.close();
  });

  const attacks: [string, (peer: Peer) => Promise<void>, string, RegExp][] = [
    [
      'another step',
      (peer) => peer.ask(0, { step: STEP - 1 }),
      'FRAME_STALE',
      /state held is at step 412, got step 411/,
    ],
    ['no piece', (peer) => peer.ask(13), 'FRAME_INVALID', /expected a piece below 13, got 13/],
    ['a piece of another model', (peer) => peer.ask(0, { layout: 1 }), 'FRAME_INVALID', /names or lengths .* differ/],
    ['nothing', (peer) => peer.connection.send([]), 'FRAME_INVALID', /expected byte length 24, got 0/],
    ['something else', (peer) => peer.connection.send([Buffer.alloc(24)]), 'FRAME_INVALID', /expected magic/],
    ['more than any message', (peer) => peer.connection.send([Buffer.alloc(1024)]), 'MESSAGE_TOO_LARGE', /./],
  ];
  for (const [name, attack, code, message] of attacks)
    test(`closes with ${code} a peer that asks for ${name}, and serves the others on`, async () => {
      const { server, host, warnings, dial } = await openWorld();
      server.offer({ step: STEP, tensors: state });
      const [hostile, other] = await Promise.all([dial(0), dial(1)]);
      await attack(hostile);
      const { error } = await hostile.connection.closed;
      assert.equal(error?.code, code);
      assert.match(error.message, message);
      if (code !== 'MESSAGE_TOO_LARGE') assert.deepEqual([warnings.length, warnings[0]?.code], [1, code]);
      await other.ask(9);
      assert.equal((await other.answer()).piece, 9);
      await host.port.close();
    });

  test('withdraws: every connection is over when it resolves, and later ones are closed at once', async () => {
    const { server, host, warnings, dial } = await openWorld();
    server.offer({ step: STEP, tensors: state });
    const peer = await dial(0);
    await peer.ask(0);
    await server.withdraw();
    assert.deepEqual(await peer.connection.closed, { code: 1000, reason: 'the state is not held here any more' });
    const late = await dial(1);
    assert.equal((await late.connection.closed).code, 1000);
    server.offer({ step: STEP, tensors: state });
    await server.withdraw();
    assert.deepEqual(warnings, []);
    await host.port.close();
  });

  test('withdraws when its signal fires', async () => {
    const { host, dial, signal } = await openWorld();
    const peer = await dial(0);
    await peer.ask(0);
    signal.abort();
    assert.equal((await peer.connection.closed).code, 1000);
    const late = await dial(1);
    assert.equal((await late.connection.closed).code, 1000);
    const server = new StateServer({ signal: signal.signal });
    serveAt(host, server.serve);
    const later = await dial(2);
    assert.equal((await later.connection.closed).code, 1000);
    await host.port.close();
  });

  test('is offered one state only', () => {
    const server = new StateServer();
    server.offer({ step: STEP, tensors: state });
    assert.throws(() => server.offer({ step: STEP, tensors: state }), { code: 'INTERNAL' });
  });

  test('sends one piece at a time to a peer, as a view of the state', async () => {
    const sends: { readonly parts: readonly Uint8Array[]; readonly settle: () => void }[] = [];
    const handlers: ((message: Uint8Array) => void)[] = [];
    const connection: Connection = {
      peer: 'slow',
      path: '/state',
      greeting: '',
      isOpen: true,
      closed: new Promise<CloseInfo>(() => undefined),
      send: (parts) => new Promise((resolve) => sends.push({ parts, settle: resolve })),
      onMessage: (handler) => handlers.push(handler),
      ping: () => Promise.resolve(0),
      close: () => assert.fail('closed'),
    };
    const server = new StateServer();
    server.offer({ step: STEP, tensors: state });
    server.serve(connection, 0);
    const ask = (piece: number): void => handlers[0]!(encodeStateRequest({ step: STEP, piece, layout }));
    ask(0);
    for (let piece = 1; piece <= STATE_WINDOW; piece++) ask(piece);
    for (let piece = 0; piece <= STATE_WINDOW; piece++) {
      assert.equal(sends.length, piece + 1);
      const payload = sends[piece]!.parts[1]!;
      assert.equal(payload.buffer, pieces[piece]!.bytes.buffer);
      assert.equal(payload.byteOffset, pieces[piece]!.bytes.byteOffset);
      sends[piece]!.settle();
      await new Promise(setImmediate);
    }
    assert.equal(sends.length, STATE_WINDOW + 1);
  });
});
