/** A welcomed line: what it lives through, and what ends it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { toCloseCode } from '../../shared/transport/close-codes.ts';
import { ScriptedCoordinator, type ScriptedPeer } from '../scripted-coordinator.fixture.ts';
import { cluster, die, joined, pass, PORT, welcomed } from './coordinator-line.fixture.ts';
import { GRACE_MS, JOIN_DEADLINE_MS, welcome } from './network-session.fixture.ts';
import { SourceStall } from './coordinator-line.ts';

describe('line to the coordinator', { timeout: 240_000 }, () => {
  test('a line that breaks after a welcome is dialled again with growing pauses, and is over when the grace is', async (t) => {
    const running = await welcomed(t);
    const { clock, network, waits, over } = running;
    const [before, numWaits, brokenMs] = [network.dialsMs.length, waits.length, clock.monotonicMs()];
    await die(running);
    assert.match(waits[numWaits]!, /has ended: .*killed; dialling again for 60000 ms/u);
    await pass(clock, 5_000, 5);
    const dials = network.dialsMs.slice(before);
    const pauses = dials.map((ms, i) => ms - (dials[i - 1] ?? brokenMs));
    assert.ok(pauses[0]! >= 25 && pauses[0]! <= 55, `first pause ${pauses[0]} ms`);
    for (const [i, pause] of pauses.entries()) {
      const longest = Math.min(50 * 2 ** i, 1_000);
      assert.ok(pause >= longest / 2 && pause <= longest + 5, `pause ${i}: ${pause} ms of ${longest}`);
    }
    assert.ok(pauses.length > 8);
    await pass(clock, GRACE_MS - 6_500, 500);
    assert.equal(over(), undefined);
    await pass(clock, 1_500, 500);
    assert.equal(over()?.code, 'CONNECT_FAILED');
    assert.match(over()!.message, /nobody listens/u);
  });

  test('workers dial again at moments of their own, each at the same ones whenever it is run', async (t) => {
    const moments = async (workerId: string): Promise<number[]> => {
      const running = await welcomed(t, { workerId });
      const before = running.network.dialsMs.length;
      await die(running);
      await pass(running.clock, 2_000, 1);
      return running.network.dialsMs.slice(before);
    };
    const [first, again, other] = [await moments('w0'), await moments('w0'), await moments('w1')];
    assert.deepEqual(first, again);
    assert.ok(
      first.filter((ms) => other.includes(ms)).length < first.length / 2,
      `${first.join()} and ${other.join()}`,
    );
  });

  test('a returning coordinator is joined like the first one, and the whole grace starts anew', async (t) => {
    const running = await welcomed(t);
    const { clock, network, waits, over } = running;
    await die(running);
    await pass(clock, 5_000);
    const second = await network.open();
    await pass(clock, 1_000);
    const peer = await joined(second, clock);
    peer.send(welcome(6));
    await clock.advance(0);
    await pass(clock, GRACE_MS + JOIN_DEADLINE_MS);
    assert.equal(over(), undefined);
    assert.ok(peer.heartbeats.length > 500, 'it beats');
    const numDials = network.dialsMs.length;
    await die({ peer, coordinator: second, clock });
    assert.match(waits.at(-1)!, /dialling again for 60000 ms/u);
    await pass(clock, 50, 5);
    assert.equal(network.dialsMs.length, numDials + 1, 'the pauses begin anew');
    await pass(clock, GRACE_MS - 1_500, 500);
    assert.equal(over(), undefined);
    await pass(clock, 2_000, 500);
    assert.equal(over()?.code, 'CONNECT_FAILED');
  });

  test('it is known as the same process on all its connections, and as no other one', async (t) => {
    const nameOf = ({ received }: ScriptedPeer): string | undefined =>
      received.find((message) => message.kind === 'join')?.processId;
    const running = await welcomed(t);
    await die(running);
    const second = await running.network.open();
    await pass(running.clock, 1_000);
    const again = await joined(second, running.clock);
    assert.equal(nameOf(again), nameOf(running.peer));
    assert.notEqual(nameOf((await welcomed(t)).peer), nameOf(running.peer));
  });

  test('a coordinator that comes and breaks without a welcome is not dialled without pauses, and does not put the end off', async (t) => {
    const running = await welcomed(t);
    const { clock, network, over } = running;
    await die(running);
    const crashing = await network.open();
    const before = network.dialsMs.length;
    let numJoined = 0;
    const crash = async (): Promise<void> => {
      for (;;) {
        const peer = await crashing.peer();
        numJoined++;
        peer.close('CONNECTION_LOST', 'crashed');
      }
    };
    void crash();
    await pass(clock, GRACE_MS - 1_500, 250);
    assert.equal(over(), undefined);
    await pass(clock, 2_500, 250);
    assert.equal(over()?.code, 'CONNECTION_LOST');
    assert.ok(numJoined > 50 && network.dialsMs.length - before <= 130, `${network.dialsMs.length - before} dials`);
  });

  test('a returning coordinator that does not welcome is closed and dialled again until the grace is over', async (t) => {
    const running = await welcomed(t);
    const { clock, network, over } = running;
    await die(running);
    const hung = await network.open();
    await pass(clock, 1_000);
    const peer = await joined(hung, clock);
    await pass(clock, JOIN_DEADLINE_MS, 500);
    assert.equal((await peer.closed).code, toCloseCode('CONNECTION_LOST'));
    await pass(clock, 1_000);
    await joined(hung, clock);
    assert.equal(over(), undefined);
    await pass(clock, JOIN_DEADLINE_MS, 500);
    assert.match(over()!.message, /did not welcome this worker within \d+ ms/u);
  });

  test('a returning coordinator with another token ends the line for good', async (t) => {
    const running = await welcomed(t);
    await die(running);
    await ScriptedCoordinator.listen(running.network, 'another token of the test', PORT);
    await pass(running.clock, 1_000);
    assert.equal(running.over()?.code, 'AUTH_FAILED');
  });

  for (const code of ['NORMAL', 'JOIN_REFUSED', 'WORKER_LOST', 'VERSION_MISMATCH', 'MESSAGE_INVALID'] as const)
    test(`a coordinator that closes with ${code} is not dialled again`, async (t) => {
      const { clock, network, over, peer, waits } = await welcomed(t);
      const before = [network.dialsMs.length, waits.length];
      peer.close(code, 'because of the test');
      await clock.advance(0);
      assert.equal(over()?.code, code === 'NORMAL' ? 'ABORTED' : code);
      assert.match(over()!.message, /because of the test/u);
      await pass(clock, 5_000, 500);
      assert.deepEqual([network.dialsMs.length, waits.length], before);
    });

  test('a coordinator that goes silent is left after the limit, not before, and dialled again', async (t) => {
    const { clock, network, over, peer, waits, coordinator } = await welcomed(t);
    await pass(clock, JOIN_DEADLINE_MS);
    const [before, numWaits] = [network.dialsMs.length, waits.length];
    peer.answersHeartbeats = false;
    await pass(clock, cluster.heartbeatTimeoutMs);
    assert.equal(waits.length, numWaits);
    await clock.advance(100);
    assert.match(waits[numWaits]!, /silent for 1100 ms \(limit 1000\); dialling again/u);
    assert.equal((await peer.closed).code, toCloseCode('CONNECTION_LOST'));
    await pass(clock, 100);
    assert.equal(network.dialsMs.length, before + 1);
    await joined(coordinator, clock);
    assert.equal(over(), undefined);
  });

  test('after a long pause of its own nobody is blamed: silence counts from then on', async (t) => {
    const { clock, peer, waits } = await welcomed(t);
    const numWaits = waits.length;
    peer.answersHeartbeats = false;
    await clock.advance(60_000); // stopped and continued
    await pass(clock, cluster.heartbeatTimeoutMs);
    assert.equal(waits.length, numWaits);
    await clock.advance(100);
    assert.match(waits[numWaits]!, /silent for 1100 ms/u);
  });

  test('its signal ends it, wherever it is', async (t) => {
    const running = await welcomed(t);
    await die(running);
    running.stop.abort();
    await running.clock.advance(0);
    assert.equal(running.over()?.code, 'ABORTED');
    assert.equal(running.clock.numSleeping, 0);
  });

  test('messages sent without a connection are dropped', async (t) => {
    const running = await welcomed(t);
    await die(running);
    running.line.send({ kind: 'aborted', epoch: 5, generation: 1, step: 3 });
    const second = await running.network.open();
    await pass(running.clock, 200, 50);
    const peer = await joined(second, running.clock);
    await running.clock.advance(0);
    assert.deepEqual(
      peer.received.map(({ kind }) => kind),
      ['join'],
    );
  });
});

test('a heartbeat reports a stall with its duration by now, until the source answers again', () => {
  const stall = new SourceStall();
  assert.deepEqual(stall.read(5), {});
  stall.record(1_000, { reason: '503', forMs: 3_000 });
  assert.deepEqual(stall.read(1_000), { stall: { reason: '503', forMs: 3_000 } });
  assert.deepEqual(stall.read(4_500), { stall: { reason: '503', forMs: 6_500 } });
  stall.record(5_000, null);
  assert.deepEqual(stall.read(5_000), {});
});
