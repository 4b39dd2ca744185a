/** A line that no coordinator has welcomed yet. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { toCloseCode } from '../../shared/transport/close-codes.ts';
import { joined, pass, start } from './coordinator-line.fixture.ts';
import { JOIN_DEADLINE_MS } from './network-session.fixture.ts';

describe('the first coordinator', { timeout: 240_000 }, () => {
  test('a coordinator that is not there yet is dialled until it is', async (t) => {
    const { clock, network, waits, over } = start(t);
    await pass(clock, 3_000);
    assert.equal(waits.length, 1, 'told once');
    assert.match(waits[0]!, /nobody listens; trying again for 30000 ms/u);
    const coordinator = await network.open();
    await pass(clock, 1_000);
    await joined(coordinator, clock);
    assert.equal(over(), undefined);
  });

  test('one that does not come in time at first is CONNECT_FAILED', async (t) => {
    const { clock, over, network } = start(t);
    await pass(clock, JOIN_DEADLINE_MS - 1_000, 500);
    assert.equal(over(), undefined);
    await pass(clock, 1_000, 500);
    assert.equal(over()?.code, 'CONNECT_FAILED');
    assert.ok(network.dialsMs.length > 25 && network.dialsMs.length < 70, `${network.dialsMs.length} dials`);
  });

  test('one that does not welcome in time at first is CONNECT_FAILED', async (t) => {
    const { clock, over, network } = start(t);
    const coordinator = await network.open();
    await pass(clock, 200, 50);
    const peer = await joined(coordinator, clock);
    await clock.advance(JOIN_DEADLINE_MS - 201);
    assert.equal(over(), undefined);
    await pass(clock, 201);
    assert.equal(over()?.code, 'CONNECT_FAILED');
    assert.match(over()!.message, /did not welcome this worker within 30000 ms/u);
    assert.equal((await peer.closed).code, toCloseCode('CONNECT_FAILED'));
  });

  test('a line that breaks before any welcome is over', async (t) => {
    const { clock, over, network, waits } = start(t);
    const coordinator = await network.open();
    await pass(clock, 200, 50);
    (await joined(coordinator, clock)).close('CONNECTION_LOST', 'killed');
    const numWaits = waits.length;
    await clock.advance(0);
    assert.equal(over()?.code, 'CONNECTION_LOST');
    assert.equal(waits.length, numWaits);
  });
});
