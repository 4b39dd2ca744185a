/** Injects a schedule of faults into a simulated run. A fault without a target is neither injected nor counted. */
import { unpack } from 'msgpackr';
import { encodeMessage } from '../../shared/protocol/codec.ts';
import { workerMessageSchema } from '../../shared/protocol/messages.ts';
import { LEASE_MS } from './memory-lock.ts';
import { describeFault, type Fault, type Schedule } from './schedule.ts';
import type { SimulatedConnection } from './simulated-network.ts';
import type { Simulation } from './simulation.ts';

const DATA_PATH = '/data/';
/** Only longer messages get a flipped bit. Tensor frames are longer; control messages rely on TCP's checksum. */
const FRAME_ABOVE_BYTES = 128;

/** Result of injecting a schedule. */
export interface Injection {
  /** The injected faults, in their order. */
  readonly happened: readonly Fault[];
  /** Restarts and continuations that are still pending. The run is not over before them. */
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

/** @returns false if the fault has no target */
function inject(simulation: Simulation, fault: Fault, later: Later): boolean {
  const { network, workers, coordinator } = simulation;
  const running = workers.filter(({ process }) => process.state === 'running');
  const live = running.map(({ process }) => process);
  switch (fault.kind) {
    case 'crash-worker': {
      const process = live[fault.worker % live.length];
      process?.crash();
      if (process !== undefined && fault.restartAfterMs !== null)
        later(fault.restartAfterMs, `${process.name} restarts`, () => simulation.restartWorker(process.name));
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
      later(fault.restartAfterMs, 'the coordinator restarts', () => simulation.startCoordinator());
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
        later(fault.continueAfterMs, 'the former coordinator continues', () => coordinator.continue());
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

/** Changes the digest of a report. Not in a world of one worker: there its digest is the truth. */
function flipReportedDigest(simulation: Simulation, data: Uint8Array): Uint8Array | undefined {
  const message = workerMessageSchema.safeParse(unpack(data)).data;
  if (message?.kind !== 'report' || simulation.worldSize < 2) return undefined;
  return encodeMessage({ ...message, gradDigest: (message.gradDigest ^ 1) >>> 0 });
}
