/** With real sockets; time is the test's. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket, type AddressInfo } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { FRAME_PART, FRAME_SUM, type FrameHeader } from '../mesh/frame-header.ts';
import type { Link } from '../mesh/peer-channel.ts';
import { FaultInjector } from './injected-fault.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

const HOLD_MS = 3_000;

function scene(t: TestContext): { clock: ManualClock; over: AbortController; faults: FaultInjector } {
  const clock = new ManualClock();
  const over = new AbortController();
  const faults = new FaultInjector({ clock, signal: over.signal });
  t.after(() => {
    over.abort();
    faults.allow(false);
  });
  return { clock, over, faults };
}

async function listen(t: TestContext): Promise<{ server: Server; port: number }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { server, port: (server.address() as AddressInfo).port };
}

/** Both ends of a connection, with what each has received. */
async function dial(t: TestContext, server: Server, port: number) {
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const near = connect(port, '127.0.0.1');
  const [far] = await accepted;
  t.after(() => {
    near.destroy();
    far.destroy();
  });
  const received = { near: '', far: '' };
  near.on('data', (bytes: Buffer) => (received.near += bytes.toString()));
  far.on('data', (bytes: Buffer) => (received.far += bytes.toString()));
  return { near, far, received };
}

/** Lets what sockets have to do be done. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
}

async function eventually(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100_000 && !holds(); turn++) await new Promise(setImmediate);
  assert.ok(holds());
}

describe('a partition', () => {
  test('holds every socket in both directions until it is over, then nothing is lost', async (t) => {
    const { clock, faults } = scene(t);
    const { server, port } = await listen(t);
    const { near, far, received } = await dial(t, server, port);
    near.write('before');
    await eventually(() => received.far === 'before');
    faults.take({ kind: 'fault', fault: 'partition', forMs: HOLD_MS });
    near.write('+there');
    far.write('back');
    near.resume(); // a reader that asks for more
    await settle();
    await clock.advance(HOLD_MS - 1);
    await settle();
    assert.deepEqual(received, { near: '', far: 'before' });
    await clock.advance(1);
    await eventually(() => received.far === 'before+there' && received.near === 'back');
  });

  test('holds sockets that are opened meanwhile', async (t) => {
    const { clock, faults } = scene(t);
    const { server, port } = await listen(t);
    faults.take({ kind: 'fault', fault: 'partition', forMs: HOLD_MS });
    const { near, received } = await dial(t, server, port);
    near.write('hello');
    await settle();
    assert.equal(received.far, '');
    await clock.advance(HOLD_MS);
    await eventually(() => received.far === 'hello');
  });

  test('ends with the link', async (t) => {
    const { over, faults } = scene(t);
    const { server, port } = await listen(t);
    const { near, received } = await dial(t, server, port);
    faults.take({ kind: 'fault', fault: 'partition', forMs: HOLD_MS });
    near.write('hello');
    await settle();
    assert.equal(received.far, '');
    over.abort();
    await eventually(() => received.far === 'hello');
  });

  test('holds nothing where faults are not allowed', async (t) => {
    const { faults } = scene(t);
    const { server, port } = await listen(t);
    faults.allow(false);
    const { near, received } = await dial(t, server, port);
    faults.take({ kind: 'fault', fault: 'partition', forMs: HOLD_MS });
    near.write('hello');
    await eventually(() => received.far === 'hello');
  });
});

class SilentLink implements Link {
  readonly peerRank = 1;
  readonly roundTripMs = 0;
  readonly closed = Promise.resolve();
  readonly sent: { type: number; payload: number[] }[] = [];
  start(): void {
    // nothing is read
  }
  send(header: FrameHeader, payload: Uint8Array): Promise<void> {
    this.sent.push({ type: header.type, payload: [...payload] });
    return Promise.resolve();
  }
  close(): void {
    // nothing is open
  }
}

function header(type: FrameHeader['type']): FrameHeader {
  const ids = { node: 0, chunk: 1, epoch: 1, generation: 1, step: 1, bucket: 0, part: 0 };
  return { type, ...ids, byteLength: 4, offsetBytes: 0, payloadChecksum: 7 };
}

describe('a corrupted frame', () => {
  test('one bit of the next part is flipped, whichever link it goes by; the sender keeps what it has', async (t) => {
    const { faults } = scene(t);
    const below = [new SilentLink(), new SilentLink()];
    const [first, second] = faults.guard(below);
    const payload = new Uint8Array([1, 2, 3, 4]);
    await first!.send(header(FRAME_PART), payload);
    faults.take({ kind: 'fault', fault: 'corrupt', forMs: 0 });
    await second!.send(header(FRAME_SUM), payload);
    await second!.send(header(FRAME_PART), payload);
    await first!.send(header(FRAME_PART), payload);
    assert.deepEqual([...payload], [1, 2, 3, 4]);
    assert.deepEqual(
      below.map(({ sent }) => sent),
      [
        [
          { type: FRAME_PART, payload: [1, 2, 3, 4] },
          { type: FRAME_PART, payload: [1, 2, 3, 4] },
        ],
        [
          { type: FRAME_SUM, payload: [1, 2, 3, 4] },
          { type: FRAME_PART, payload: [1, 2, 2, 4] },
        ],
      ],
    );
  });

  test('where faults are not allowed the links stay what they are', (t) => {
    const { faults } = scene(t);
    faults.allow(false);
    const links = [new SilentLink()];
    assert.equal(faults.guard(links), links);
  });
});
