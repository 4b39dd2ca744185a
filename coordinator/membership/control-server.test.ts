import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { TrainerError } from '../../shared/errors.ts';
import { encodeMessage } from '../../shared/protocol/codec.ts';
import { PROTOCOL_VERSION, type WorkerMessage } from '../../shared/protocol/messages.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { CloseInfo, Connection, Listener, ListenInit, Transport } from '../../shared/transport/transport.ts';
import { VERSION } from '../../shared/version.ts';
import { ControlServer, type ControlEvent, type WorkerEventMessage } from './control-server.ts';
import { ManualClock, rest } from '../../shared/manual-clock.fixture.ts';
import type { WorkerHandle } from './worker-handle.ts';

const TOKEN = 'a token of the test';
const SILENCE_MS = 4_000;
const HEARTBEAT: WorkerMessage = { kind: 'heartbeat', progress: 0, phase: 'compute', step: 3 };
const FAILED: WorkerMessage = { kind: 'failed', epoch: 1, generation: 1, error: { code: 'TENSOR_LEAK', message: 'x' } };

function joinOf(workerId: string, processId = 'a'): WorkerMessage {
  const address = { host: 'h', pid: 1, processId, dataUrl: 'memory://d:1' };
  return { kind: 'join', protocolVersion: PROTOCOL_VERSION, version: VERSION, workerId, ...address };
}

/** A connection whose peer does not answer that it was closed: what is under way from it still arrives. */
function lingering() {
  let handler: ((data: Uint8Array) => void) | undefined;
  const connection: Connection = {
    peer: 'somebody',
    path: '/',
    greeting: '',
    isOpen: true,
    closed: new Promise(() => undefined),
    send: () => Promise.resolve(),
    onMessage: (given) => (handler = given),
    ping: () => Promise.resolve(1),
    close: () => undefined,
  };
  return { connection, give: (message: WorkerMessage) => handler!(encodeMessage(message)) };
}

/** A server that listens, and what a worker does with it. */
async function start(transport: Transport = new MemoryTransport(), maxWorkers = 4) {
  const clock = new ManualClock();
  const hung: string[] = [];
  const records: LogRecord[] = [];
  const server = new ControlServer({
    ...{ transport, clock, host: '127.0.0.1', token: TOKEN, maxWorkers, silenceMs: SILENCE_MS, routes: {} },
    log: createLogger({ onRecord: (record) => records.push(record) }),
    ...{ epoch: 1, size: { numLanes: 8, numTasks: 3 } },
    onHung: (workerId) => hung.push(workerId),
  });
  server.newestGeneration = 1;
  const url = await server.listen(0);
  const dial = () => transport.dial(url, { token: TOKEN, timeoutMs: 1_000 });
  /** Sends and lets it arrive. */
  const say = async (connection: Connection, message: WorkerMessage): Promise<void> => {
    await connection.send([encodeMessage(message)]).catch(() => undefined); // it may be closed
    await rest();
  };
  const join = async (workerId: string, processId?: string): Promise<Connection> => {
    const connection = await dial();
    await say(connection, joinOf(workerId, processId));
    return connection;
  };
  /** All events so far, as `kind workerId`. */
  const events = async (): Promise<string[]> => {
    await rest();
    const found: ControlEvent[] = [];
    while (server.events.size > 0) found.push((await server.events.next(0))!);
    return found.map(({ kind, worker }) => `${kind} ${worker.workerId}`);
  };
  const only = (): WorkerHandle => server.workers()[0]!;
  return { server, clock, dial, join, say, events, only, hung, records };
}

/** Undefined while it is open. */
async function closeOf(connection: Connection): Promise<CloseInfo | undefined> {
  await rest();
  return connection.isOpen ? undefined : connection.closed;
}

describe('control server', () => {
  for (const [maxWorkers, expected] of [
    [4, 64],
    [1_000, 1_000],
  ] as const)
    test(`with maxWorkers ${maxWorkers}, ${expected} sockets without token are accepted at the same time`, async () => {
      let found: number | undefined;
      class Observed extends MemoryTransport {
        override listen(init: ListenInit): Promise<Listener> {
          found = init.maxUnauthenticated;
          return super.listen(init);
        }
      }
      const { server } = await start(new Observed(), maxWorkers);
      assert.equal(found, expected);
      await server.close();
    });

  test('a worker exists from its join on, and is lost once when its socket closes', async () => {
    const { server, join, say, events } = await start();
    const connection = await join('w0');
    await say(connection, FAILED);
    assert.deepEqual(await events(), ['joined w0', 'message w0']);
    assert.deepEqual(
      server.workers().map(({ workerId }) => workerId),
      ['w0'],
    );
    connection.close('NORMAL', 'bye');
    assert.deepEqual(await events(), ['lost w0']);
    assert.deepEqual([server.workers(), await events()], [[], []]);
    await server.close();
  });

  test('the newer socket of a process counts: the older one may dial again', async () => {
    const { server, join, say, events, only } = await start();
    const older = await join('w0', 'a');
    const first = only();
    const newer = await join('w0', 'a');
    assert.deepEqual(await events(), ['joined w0', 'lost w0', 'joined w0']);
    assert.equal((await closeOf(older))?.code, 4009);
    assert.equal(await closeOf(newer), undefined);
    assert.notEqual(only(), first);
    await say(newer, FAILED);
    assert.deepEqual(await events(), ['message w0'], 'the end of the older one is not heard a second time');
    await server.close();
  });

  test('another process with the id of a worker that answers is refused, also one with the same pid and host name', async () => {
    const { server, join, events, only } = await start();
    const older = await join('w0', 'a');
    const first = only();
    const newer = await join('w0', 'b');
    const { code, reason } = (await closeOf(newer))!;
    assert.deepEqual([code, reason], [4007, 'the id w0 is in use on h: give each worker its own --id']);
    assert.equal(await closeOf(older), undefined);
    assert.equal(only(), first);
    assert.deepEqual(await events(), ['joined w0']);
    await server.close();
  });

  for (const [what, ping] of [
    ['does not answer a ping', () => Promise.reject(new TrainerError('CONNECT_FAILED', 'no pong'))],
    ['has a broken connection', () => Promise.reject(new TrainerError('CONNECTION_LOST', 'broken'))],
  ] as const)
    test(`another process gets the id of a worker that ${what}`, async () => {
      const memory = new MemoryTransport();
      const accepted: { take?: (connection: Connection) => void } = {};
      const listen = (init: ListenInit): Promise<Listener> => {
        accepted.take = init.onConnection;
        return memory.listen(init);
      };
      const { server, events, only } = await start({
        scheme: memory.scheme,
        listen,
        dial: () => assert.fail('nobody dials'),
      });
      const [older, newer, third] = [lingering(), lingering(), lingering()];
      accepted.take!({ ...older.connection, ping });
      older.give(joinOf('w0', 'a'));
      accepted.take!(newer.connection);
      newer.give(joinOf('w0', 'b'));
      assert.deepEqual(await events(), ['joined w0', 'lost w0', 'joined w0']);
      accepted.take!(third.connection);
      third.give(joinOf('w0', 'c'));
      newer.give(FAILED);
      assert.deepEqual(await events(), ['message w0'], 'the one that has the id now answers');
      assert.equal(only().workerId, 'w0');
      await server.close();
    });

  test('a dropped worker is lost at once, and once', async () => {
    const { server, join, events, only } = await start();
    const connection = await join('w0');
    const worker = only();
    worker.drop('WORKER_LOST', 'it was late');
    worker.drop('JOIN_REFUSED', 'a second time');
    assert.deepEqual(server.workers(), []);
    assert.deepEqual(await events(), ['joined w0', 'lost w0']);
    const { code, reason } = (await closeOf(connection))!;
    assert.deepEqual([code, reason], [4012, 'it was late']);
    await server.close();
  });

  test('messages in flight from a dropped worker are ignored', async () => {
    const memory = new MemoryTransport();
    const accepted: { take?: (connection: Connection) => void } = {};
    const transport: Transport = {
      scheme: 'memory',
      listen: (init) => {
        accepted.take = init.onConnection;
        return memory.listen(init);
      },
      dial: () => assert.fail('nobody dials'),
    };
    const { server, events, only } = await start(transport);
    const older = lingering();
    accepted.take!(older.connection);
    older.give(joinOf('w0'));
    only().drop('WORKER_LOST', 'it was late');
    older.give(FAILED);
    assert.deepEqual(await events(), ['joined w0', 'lost w0']);
    const newer = lingering();
    accepted.take!(newer.connection);
    newer.give(joinOf('w0'));
    older.give(FAILED);
    assert.deepEqual(await events(), ['joined w0']);
    await server.close();
  });

  test('a peer that does not join in time is closed, without an event', async () => {
    const { server, clock, dial, events } = await start();
    const connection = await dial();
    await clock.advance(9_999);
    assert.equal(await closeOf(connection), undefined);
    await clock.advance(1);
    assert.equal((await closeOf(connection))?.code, 4007);
    assert.deepEqual(await events(), []);
    await server.close();
  });

  test('a message that breaks the protocol closes its socket: the worker is lost', async () => {
    const { server, join, events, dial } = await start();
    const connection = await join('w0');
    const other = await dial();
    await connection.send([new Uint8Array([0xc1, 1, 2])]);
    await other.send([encodeMessage(HEARTBEAT)]);
    assert.deepEqual(await events(), ['joined w0', 'lost w0']);
    assert.deepEqual([(await closeOf(connection))?.code, (await closeOf(other))?.code], [4002, 4002]);
    await server.close();
  });

  test('a heartbeat is answered, and its phase and step are recorded', async () => {
    const { server, join, say, events, only } = await start();
    const connection = await join('w0');
    let numAnswers = 0;
    connection.onMessage(() => numAnswers++);
    await say(connection, HEARTBEAT);
    assert.deepEqual([numAnswers, only().phase, only().step], [1, 'compute', 3]);
    assert.deepEqual(await events(), ['joined w0']);
    await server.close();
  });
});

describe('a full mailbox', () => {
  /** A worker has filled the mailbox with messages. */
  async function flooded() {
    const parts = await start();
    const connection = await parts.join('w0');
    const filler: ControlEvent = { kind: 'message', worker: parts.only(), message: FAILED as WorkerEventMessage };
    while (parts.server.events.put(filler));
    const found = async (): Promise<string[]> => (await parts.events()).filter((event) => event !== 'message w0');
    return { ...parts, connection, found };
  }

  test('still accepts the end of a connection, so no one waits for a worker that has left', async () => {
    const { server, connection, found } = await flooded();
    connection.close('CONNECTION_LOST', 'it died');
    assert.deepEqual(await found(), ['joined w0', 'lost w0']);
    await server.close();
  });

  test('still accepts the end of a dropped worker, and of one that sends more', async () => {
    const { server, join, say, only, found, connection } = await flooded();
    await say(connection, FAILED);
    assert.equal((await closeOf(connection))?.code, 4010);
    assert.deepEqual(server.workers(), []);
    assert.deepEqual(await found(), ['joined w0', 'lost w0']);
    await join('w1');
    while (server.events.put({ kind: 'message', worker: only(), message: FAILED as WorkerEventMessage }));
    only().drop('WORKER_LOST', 'it was late');
    assert.ok((await found()).includes('lost w1'));
    await server.close();
  });

  test('refuses joins, so that ends are bounded: the older socket of the id stays, the newer one gives no event', async () => {
    const { server, join, connection, found } = await flooded();
    const [other, newer] = [await join('w1'), await join('w0')];
    assert.deepEqual([(await closeOf(other))?.code, (await closeOf(newer))?.code], [4010, 4010]);
    assert.equal(await closeOf(connection), undefined);
    assert.deepEqual(await found(), ['joined w0']);
    await join('w2');
    assert.deepEqual(await found(), ['joined w2'], 'there is space again');
    await server.close();
  });
});

describe('a silent worker', () => {
  /** Time in steps in which everybody can run. */
  async function pass(clock: ManualClock, ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 250) await clock.advance(Math.min(250, left));
  }

  test('is lost after the limit and not before; any message resets the limit', async () => {
    const { server, clock, join, say, events, hung } = await start();
    const [quiet, beating] = [await join('quiet'), await join('beating')];
    await pass(clock, SILENCE_MS - 1_000);
    await say(beating, FAILED);
    await pass(clock, 1_000);
    assert.deepEqual(await events(), ['joined quiet', 'joined beating', 'message beating']);
    await pass(clock, 250);
    assert.deepEqual(await events(), ['lost quiet']);
    const { code, reason } = (await closeOf(quiet))!;
    assert.equal(code, 4009, 'it may come back');
    assert.match(reason, /silent for 4250 ms \(limit 4000\)/u);
    assert.deepEqual(hung, ['quiet'], 'its process may have to be ended');
    await pass(clock, SILENCE_MS - 1_000);
    assert.deepEqual(await events(), ['lost beating']);
    await server.close();
  });

  test('is not blamed after the coordinator itself stood still', async () => {
    const { server, clock, join, events } = await start();
    await join('w0');
    await pass(clock, 3_000);
    await clock.advance(60_000);
    assert.deepEqual(await events(), ['joined w0']);
    await pass(clock, SILENCE_MS);
    assert.deepEqual(await events(), [], 'it has the whole limit again');
    await pass(clock, 250);
    assert.deepEqual(await events(), ['lost w0']);
    await server.close();
  });
});

describe('the end of a control server', () => {
  test('ends at once when all workers leave after finish', async () => {
    const { server, join, events } = await start();
    const connection = await join('w0');
    connection.onMessage(() => connection.close('NORMAL', 'done'));
    await server.dismiss('the run is finished', 'finished');
    assert.deepEqual(await events(), ['joined w0', 'lost w0']);
    await server.close();
  });

  test('closes the workers that do not leave in time', async () => {
    const { server, clock, join } = await start();
    const connection = await join('w0');
    connection.onMessage(() => undefined);
    const dismissed = server.dismiss('the run is finished', 'finished');
    await rest();
    await clock.advance(9_999);
    assert.equal(await closeOf(connection), undefined);
    await clock.advance(1);
    await dismissed;
    assert.deepEqual(await closeOf(connection), { code: 1000, reason: 'the run is finished' });
    await server.close();
  });

  for (const [mayComeBack, code] of [
    [true, 4009],
    [false, 1000],
  ] as const)
    test(`workers ${mayComeBack ? 'may' : 'do not'} dial again: they are closed with ${code}`, async () => {
      const { server, join } = await start();
      const connection = await join('w0');
      await server.close(mayComeBack);
      assert.equal((await closeOf(connection))?.code, code);
    });
});

describe('a hostile member', () => {
  const report = { kind: 'report' as const, step: 1, gradDigest: 1, gradSumOfSquares: 1, lanes: [] };
  const ms = { feed: 1, compute: 1, communicate: 1, update: 1, total: 1 };

  for (const [what, message] of [
    ['a report of a later epoch', { ...report, ms, epoch: 2, generation: 1 }],
    ['a report of a later generation', { ...report, ms, epoch: 1, generation: 2 }],
    ['an answer of an earlier epoch', { kind: 'aborted', epoch: 0, generation: 1, step: 1 }],
    ['a failure of a later generation', { ...FAILED, generation: 9 }],
  ] as const)
    test(`with ${what} is closed with MESSAGE_INVALID and logged`, async () => {
      const { server, join, say, events, records } = await start();
      const connection = await join('w0');
      await say(connection, message);
      assert.equal((await closeOf(connection))?.code, 4002);
      assert.deepEqual(await events(), ['joined w0', 'lost w0']);
      const closed = records.filter(({ msg }) => msg === 'connection closed');
      assert.deepEqual(
        closed.map(({ code, workerId }) => [code, workerId]),
        [['MESSAGE_INVALID', 'w0']],
      );
      assert.match(String(closed[0]!['reason']), /expected epoch 1 and a generation up to 1$/u);
      await server.close();
    });

  test('is none for a report of an earlier epoch or generation, which a worker sends again after its welcome', async () => {
    const { server, join, say, events } = await start();
    const connection = await join('w0');
    server.newestGeneration = 3;
    await say(connection, { ...report, ms, epoch: 0, generation: 9 });
    await say(connection, { ...report, ms, epoch: 1, generation: 2 });
    assert.deepEqual(await events(), ['joined w0', 'message w0', 'message w0']);
    await server.close();
  });

  test('with a message over the bound of its kind is closed with MESSAGE_TOO_LARGE and logged', async () => {
    const { server, dial, join, say, records } = await start();
    const connection = await join('w0');
    await say(connection, { ...FAILED, filler: 'x'.repeat(100_000) } as unknown as WorkerMessage);
    assert.equal((await closeOf(connection))?.code, 4003);
    const unjoined = await dial();
    await say(unjoined, { ...joinOf('w1'), filler: 'x'.repeat(5_000) } as unknown as WorkerMessage);
    assert.equal((await closeOf(unjoined))?.code, 4003);
    const closed = records.filter(({ msg }) => msg === 'connection closed');
    assert.deepEqual(
      closed.map(({ code, workerId }) => [code, workerId]),
      [
        ['MESSAGE_TOO_LARGE', 'w0'],
        ['MESSAGE_TOO_LARGE', undefined],
      ],
    );
    await server.close();
  });

  for (const dataUrl of ['memory://d:1/path', 'memory://d', 'memory://u@d:1', 'ws://d:1', 'memory://d:1#x'])
    test(`that announces ${dataUrl} is refused at join`, async () => {
      const { server, dial, say, events } = await start();
      const connection = await dial();
      await say(connection, { ...joinOf('w0'), dataUrl } as WorkerMessage);
      assert.equal((await closeOf(connection))?.code, 4002);
      assert.deepEqual(await events(), []);
      await server.close();
    });

  test('cannot join under more names than workers may train and wait in reserve', async () => {
    const { server, join } = await start();
    const connections: Connection[] = [];
    for (let i = 0; i < 4 + 64; i++) connections.push(await join(`w${i}`));
    assert.equal((await closeOf(await join('one more')))?.code, 4007);
    assert.equal(server.workers().length, 68);
    const again = await join('w0');
    assert.equal(await closeOf(again), undefined, 'a process that has joined may dial again');
    await server.close();
  });

  test('cannot hold more sockets without a join than the bound: the oldest is closed', async () => {
    const { server, dial } = await start();
    const connections: Connection[] = [];
    for (let i = 0; i < 65; i++) connections.push(await dial());
    assert.equal((await closeOf(connections[0]!))?.code, 4007);
    assert.equal(await closeOf(connections[1]!), undefined);
    await server.close();
  });
});
