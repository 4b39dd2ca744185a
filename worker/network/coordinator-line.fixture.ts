/** A line to a scripted coordinator over the in-memory transport, by a manual clock. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { checkConfig } from '../../shared/config/load-config.ts';
import type { TrainerError } from '../../shared/errors.ts';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { Connection, DialInit } from '../../shared/transport/transport.ts';
import { ScriptedCoordinator, type ScriptedPeer } from '../scripted-coordinator.fixture.ts';
import { CoordinatorLine } from './coordinator-line.ts';
import { RAW_CONFIG, TOKEN, welcome } from './network-session.fixture.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

const config = checkConfig(RAW_CONFIG, 'the test');
export const { cluster } = config;
export const PORT = 7;
const URL = `memory://127.0.0.1:${PORT}`;

/** A network that remembers when somebody dialled. */
class Network extends MemoryTransport {
  readonly dialsMs: number[] = [];
  readonly #clock: ManualClock;

  constructor(clock: ManualClock) {
    super();
    this.#clock = clock;
  }

  override dial(url: string, init: DialInit): Promise<Connection> {
    this.dialsMs.push(this.#clock.monotonicMs());
    return super.dial(url, init);
  }

  open(): Promise<ScriptedCoordinator> {
    return ScriptedCoordinator.listen(this, TOKEN, PORT);
  }
}

export interface Running {
  readonly clock: ManualClock;
  readonly network: Network;
  readonly line: CoordinatorLine;
  readonly messages: CoordinatorMessage[];
  readonly waits: string[];
  /** Why it is over, once it is. */
  readonly over: () => TrainerError | undefined;
  readonly stop: AbortController;
}

export function start(t: TestContext, { workerId = 'w0', token = TOKEN } = {}): Running {
  const clock = new ManualClock();
  const network = new Network(clock);
  const stop = new AbortController();
  const messages: CoordinatorMessage[] = [];
  const waits: string[] = [];
  let over: TrainerError | undefined;
  const line: CoordinatorLine = new CoordinatorLine({
    data: { coordinatorUrl: URL, token, workerId },
    openDataPort: () => Promise.resolve('memory://127.0.0.1:1'),
    transport: network,
    clock,
    signal: stop.signal,
    onMessage: (message) => {
      messages.push(message);
      if (message.kind === 'welcome') line.welcome({ ...config, numLanes: config.training.numLanes });
    },
    beat: () => ({ kind: 'heartbeat', progress: 0, phase: 'waiting', step: 0 }),
    onWaiting: (reason) => void waits.push(reason),
  });
  t.after(() => {
    stop.abort();
    line.close('NORMAL', 'the test is over');
  });
  void line.run().then((error) => (over = error));
  return { clock, network, line, messages, waits, over: () => over, stop };
}

/** Lets time pass in small steps. */
export async function pass(clock: ManualClock, ms: number, stepMs = 100): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) await clock.advance(Math.min(stepMs, ms - passed));
}

export async function joined(coordinator: ScriptedCoordinator, clock: ManualClock): Promise<ScriptedPeer> {
  await clock.advance(0);
  const peer = await coordinator.peer();
  await peer.receive('join');
  return peer;
}

/** A line that has been welcomed. */
export async function welcomed(
  t: TestContext,
  options = {},
): Promise<Running & { peer: ScriptedPeer; coordinator: ScriptedCoordinator }> {
  const running = start(t, options);
  const coordinator = await running.network.open();
  await pass(running.clock, 200, 50);
  const peer = await joined(coordinator, running.clock);
  peer.send(welcome());
  await running.clock.advance(0);
  assert.equal(running.messages[0]?.kind, 'welcome');
  return { ...running, peer, coordinator };
}

/** The coordinator's process is gone. */
export async function die({
  peer,
  coordinator,
  clock,
}: {
  peer: ScriptedPeer;
  coordinator: ScriptedCoordinator;
  clock: ManualClock;
}) {
  peer.close('CONNECTION_LOST', 'killed');
  await coordinator.close();
  await clock.advance(0);
}
