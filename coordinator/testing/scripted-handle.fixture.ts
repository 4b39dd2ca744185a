/** A roster and worker handles without sockets: messages to a worker are kept, and the test puts its events into the mailbox. */
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { decodeMessage } from '../../shared/protocol/codec.ts';
import {
  coordinatorMessageSchema,
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type HeldState,
} from '../../shared/protocol/messages.ts';
import { toCloseCode } from '../../shared/transport/close-codes.ts';
import type { CloseInfo, Connection } from '../../shared/transport/transport.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import { VERSION } from '../../shared/version.ts';
import { ControlServer, type WorkerEventMessage } from '../membership/control-server.ts';
import { Roster, type RosterInit } from '../membership/roster.ts';
import { MIXTURE_HASH, SmallRun } from './small-run.fixture.ts';
import { WorkerHandle } from '../membership/worker-handle.ts';

export const RUN_ID = 'the run';
export const EPOCH = 4;

export interface ScriptedHandle {
  readonly handle: WorkerHandle;
  readonly sent: CoordinatorMessage[];
  /** Resolves when its connection is closed. */
  readonly closed: Promise<CloseInfo>;
  isClosed(): boolean;
}

/** @param onLost called when the worker is dropped */
function makeHandle(
  workerId: string,
  pid: number,
  onLost: (handle: WorkerHandle, error: TrainerError) => void,
): ScriptedHandle {
  const sent: CoordinatorMessage[] = [];
  let isOpen = true;
  let end!: (info: CloseInfo) => void;
  const closed = new Promise<CloseInfo>((resolve) => (end = resolve));
  const connection: Connection = {
    peer: workerId,
    path: '/',
    greeting: '',
    isOpen: true,
    closed,
    send: (parts) => {
      sent.push(decodeMessage(coordinatorMessageSchema, Buffer.concat(parts)));
      return Promise.resolve();
    },
    onMessage: () => undefined,
    ping: () => Promise.resolve(1),
    close: (code, reason) => {
      isOpen = false;
      end({ code: toCloseCode(code), reason });
    },
  };
  const handle: WorkerHandle = new WorkerHandle(
    {
      kind: 'join',
      protocolVersion: PROTOCOL_VERSION,
      version: VERSION,
      workerId,
      host: 'h',
      pid,
      processId: `process ${pid}`,
      dataUrl: `memory://${workerId}:1`,
    },
    { connection, nowMs: 0, log: createLogger({}), onDrop: (error) => onLost(handle, error), onHung: () => undefined },
  );
  return { handle, sent, closed, isClosed: () => !isOpen };
}

/** A roster, and a mailbox that a test puts events into. */
export class ScriptedRoster {
  readonly server: ControlServer;
  readonly roster: Roster;
  readonly log: LogRecord[] = [];
  readonly lateReports: [string, number][] = [];
  readonly config = new SmallRun().config;
  committedStep = 0;
  readonly #lost = new Set<WorkerHandle>();

  constructor(clock: Clock, changes: Partial<RosterInit> = {}) {
    const logger = createLogger({ level: 'debug', onRecord: (record) => this.log.push(record) });
    const run = { epoch: EPOCH, size: { numLanes: 8, numTasks: 8 } };
    const network = { transport: new MemoryTransport(), host: 'h', token: 'a token', routes: {} };
    this.server = new ControlServer({ ...network, clock, log: logger, maxWorkers: 4, silenceMs: 5_000, ...run });
    this.roster = new Roster({
      config: this.config,
      runId: RUN_ID,
      epoch: EPOCH,
      heldSince: EPOCH,
      distrusted: [],
      engineBefore: undefined,
      journal: { append: () => Promise.resolve() },
      mixture: { folder: '/prepared', hash: MIXTURE_HASH },
      clock,
      log: logger,
      committedStep: () => this.committedStep,
      onLateReport: ({ workerId }, { step }) => this.lateReports.push([workerId, step]),
      onLateSaved: () => undefined,
      ...changes,
    });
  }

  /** A worker that has joined. */
  join(workerId: string, pid = 1): ScriptedHandle {
    const made = makeHandle(workerId, pid, (worker, error) => this.#lose(worker, error));
    this.roster.handle({ kind: 'joined', worker: made.handle });
    return made;
  }

  /** A worker that is ready. */
  ready(workerId: string, held: Partial<HeldState> | null = null, facts: object = {}): ScriptedHandle {
    const made = this.join(workerId);
    this.roster.handle({ kind: 'message', worker: made.handle, message: readyMessage(held, facts) });
    return made;
  }

  /** Puts a message of a worker into the mailbox. */
  say({ handle }: ScriptedHandle, message: WorkerEventMessage): void {
    this.server.events.put({ kind: 'message', worker: handle, message });
  }

  /** Puts the end of a worker into the mailbox. */
  lose({ handle }: ScriptedHandle): void {
    this.#lose(handle, new TrainerError('WORKER_LOST', `${handle.toString()} closed its socket`));
  }

  #lose(worker: WorkerHandle, error: TrainerError): void {
    if (this.#lost.has(worker)) return;
    this.#lost.add(worker);
    this.server.events.put({ kind: 'lost', worker, error });
  }
}

/** @param held defaults: this run, this epoch, step 0 */
export function readyMessage(held: Partial<HeldState> | null, facts: object = {}): WorkerEventMessage {
  const state = held === null ? null : { runId: RUN_ID, epoch: EPOCH, step: 0, ...held };
  const engine = { engine: 'scripted', engineFingerprint: 'scripted 1' };
  return { kind: 'ready', epoch: EPOCH, held: state, ...engine, mixtureHash: MIXTURE_HASH, numParameters: 1, ...facts };
}
