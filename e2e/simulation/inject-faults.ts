/** Carries a schedule of faults out on a simulated run. What a fault finds nobody to happen to is not done, and not counted. */
import { unpack } from 'msgpackr';
import { encodeMessage } from '../../shared/protocol/codec.ts';
import { workerMessageSchema } from '../../shared/protocol/messages.ts';
import { LEASE_MS } from './memory-lock.ts';
import { describeFault, type Fault, type Schedule } from './schedule.ts';
import type { SimulatedConnection } from './simulated-network.ts';
import type { Simulation } from './simulation.ts';

/** Tensor frames are longer; control messages have no checksum of their own, and TCP's is believed there. */
const DATA_PATH = '/data/';
const FRAME_ABOVE_BYTES = 128;

/** What came of a schedule. */
export interface Injection {
  /** Faults that happened, in their order. */
  readonly happened: readonly Fault[];
  /** Restarts that are still to come: the run is not over before them. */
  readonly numPending: number;
}

export function injectFaults(simulation: Simulation, { faults }: Schedule): Injection {
  const { time } = simulation;
  const injection = { happened: [] as Fault[], numPending: 0 };
  const later = (delayMs: number, label: string, act: () => void): void => {
    injection.numPending += 1;
    time.schedule(delayMs, label, () => {
      injection.numPending -= 1;
      act();
    });
  };
  for (const fault of faults) {
    const label = describeFault(fault);
    const fire = (): void => {
      if (inject(simulation, fault, later)) injection.happened.push(fault);
    };
    if ('afterMs' in fault.at) time.schedule(fault.at.afterMs, label, fire);
    else time.atEvent(fault.at.afterEvents, label, fire);
  }
  return injection;
}

type Later = (delayMs: number, label: string, act: () => void) => void;

/** @returns whether there was somebody for it to happen to */
function inject(simulation: Simulation, fault: Fault, later: Later): boolean {
  const { network, workers, coordinator } = simulation;
  const running = workers.filter(({ process }) => process.state === 'running');
  const live = running.map(({ process }) => process);
  switch (fault.kind) {
    case 'crash-worker': {
      const process = live[fault.worker % live.length];
      process?.crash();
      if (process !== undefined && fault.restartAfterMs !== null)
        later(fault.restartAfterMs, `${process.name} starts again`, () => simulation.restartWorker(process.name));
      return process !== undefined;
    }
    case 'stop-worker': {
      const process = live[fault.worker % live.length];
      process?.stop();
      if (process !== undefined) later(fault.forMs, `${process.name} continues`, () => process.continue());
      return process !== undefined;
    }
    case 'join-worker':
      simulation.startWorker(`w${workers.length}`);
      return true;
    case 'cut-connection':
      return withConnection(network.connections(), fault.connection, (connection) => network.cut(connection));
    case 'half-open':
      return withConnection(network.connections(), fault.connection, (connection) =>
        network.halfOpen(connection, fault.aware, fault.silentMs),
      );
    case 'corrupt-frame': {
      const ofData = network.connections().filter(({ path }) => path.startsWith(DATA_PATH));
      return withConnection(ofData, fault.connection, (connection) =>
        network.corruptNext(connection, FRAME_ABOVE_BYTES),
      );
    }
    case 'partition': {
      const a = live[fault.worker % live.length];
      const b = fault.from === 'all' ? null : live[fault.from % live.length];
      if (a === undefined || b === undefined || a === b) return false;
      network.partition(a, b, fault.forMs, fault.connections);
      return true;
    }
    case 'crash-coordinator': {
      if (coordinator?.state !== 'running' || simulation.outcome !== 'working') return false;
      coordinator.crash();
      later(fault.restartAfterMs, 'the coordinator starts again', () => simulation.startCoordinator());
      return true;
    }
    case 'stop-coordinator': {
      if (coordinator?.state !== 'running' || simulation.outcome !== 'working') return false;
      coordinator.stop();
      later(fault.forMs, 'the coordinator continues', () => coordinator.continue());
      return true;
    }
    case 'replace-coordinator': {
      if (coordinator?.state !== 'running' || simulation.outcome !== 'working') return false;
      coordinator.stop();
      later(LEASE_MS + 1, 'another coordinator takes over', () => {
        simulation.startCoordinator();
        later(fault.continueAfterMs, 'the coordinator of before continues', () => coordinator.continue());
      });
      return true;
    }
    case 'not-finite':
      running[fault.worker % running.length]?.spoilNext('step', 'nan');
      return running.length > 0;
    case 'flip-state':
      running[fault.worker % running.length]?.spoilNext('apply', 'flip-bit');
      return running.length > 0;
    case 'wrong-digest':
      return withConnection(network.connections(live[fault.worker % live.length], coordinator), 0, (connection) =>
        network.alterNext(connection, (data) => flipReportedDigest(simulation, data)),
      );
  }
}

function withConnection(
  connections: readonly SimulatedConnection[],
  number: number,
  act: (connection: SimulatedConnection) => void,
): boolean {
  const connection = connections[number % connections.length];
  if (connection !== undefined) act(connection);
  return connection !== undefined;
}

/** A report whose digest is another one; of a worker alone it would be the truth. */
function flipReportedDigest(simulation: Simulation, data: Uint8Array): Uint8Array | undefined {
  const message = workerMessageSchema.safeParse(unpack(data)).data;
  if (message?.kind !== 'report' || simulation.worldSize < 2) return undefined;
  return encodeMessage({ ...message, gradDigest: (message.gradDigest ^ 1) >>> 0 });
}
