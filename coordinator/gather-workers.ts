/** The rendezvous at work: welcomes workers, hears who is ready, and asks the pure rule (rendezvous.ts) after each event. */
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { ControlEvent, ControlServer, WorkerHandle } from './control-server.ts';
import type { ReadyMessage } from './form-generation.ts';
import type { StartingPoint } from './starting-point.ts';
import { decideRendezvous } from './rendezvous.ts';

const TICK_MS = 200;

export interface GatherInit {
  readonly config: RunConfig;
  readonly epoch: number;
  readonly mixture: PreparedMixture;
  readonly start: StartingPoint;
  readonly server: ControlServer;
  readonly clock: Clock;
  readonly log: Logger;
  /** What is being waited for. */
  readonly explain: (reason: string) => void;
  /** Why the run is to stop, once it is. */
  readonly stopReason: () => string | undefined;
  /** Which worker process of this host has failed, once one has. */
  readonly workerFailure: () => string | undefined;
  readonly signal: AbortSignal;
}

/**
 * @returns what the ready workers have said, in rank order; nobody where the run was stopped before it began
 * @throws RENDEZVOUS_TIMEOUT, WORKER_LOST where a worker that this host started has failed, MESSAGE_INVALID, ABORTED
 */
export async function gatherWorkers(init: GatherInit): Promise<Map<WorkerHandle, ReadyMessage>> {
  const { config, server, clock, explain, stopReason, workerFailure, signal } = init;
  const { minWorkers, rendezvousTimeoutMs: timeoutMs } = config.cluster;
  const options = { minWorkers, maxWorkers: config.training.numLanes, timeoutMs };
  const startedMs = clock.monotonicMs();
  const ready = new Map<WorkerHandle, ReadyMessage>();
  /** What the last worker that could not get ready said. */
  let lastFailure = '';
  while (stopReason() === undefined) {
    const failure = workerFailure();
    if (failure !== undefined) throw new TrainerError('WORKER_LOST', failure + lastFailure);
    const workers = server.workers();
    const candidates = workers.map((worker) => {
      const state = ready.has(worker) ? ('ready' as const) : ('joined' as const);
      return { workerId: worker.workerId, host: worker.host, state };
    });
    const decision = decideRendezvous(clock.monotonicMs() - startedMs, candidates, options);
    explain(decision.reason);
    if (decision.kind === 'fail') throw new TrainerError('RENDEZVOUS_TIMEOUT', decision.reason + lastFailure);
    if (decision.kind === 'form') {
      const members = decision.workerIds.map((id) => workers.find(({ workerId }) => workerId === id)!);
      return new Map(members.map((member) => [member, ready.get(member)!]));
    }
    const event = await server.events.next(TICK_MS, signal);
    if (event !== undefined) lastFailure = take(init, ready, event) ?? lastFailure;
  }
  return new Map();
}

/** @returns the sentence about a worker that could not get ready */
function take(init: GatherInit, ready: Map<WorkerHandle, ReadyMessage>, event: ControlEvent): string | undefined {
  const { config, epoch, mixture, start, log } = init;
  const { worker } = event;
  const { workerId, host, pid } = worker;
  if (event.kind === 'joined') {
    log.info({ workerId, host, pid }, 'worker joined');
    const checkpoint = start.checkpoint?.path ?? null;
    const { folder: preparedFolder, hash: mixtureHash } = mixture;
    worker.send({ kind: 'welcome', epoch, config, preparedFolder, mixtureHash, checkpoint, step: start.step });
  } else if (event.kind === 'lost') {
    ready.delete(worker);
    log.warn({ workerId, reason: event.error.message }, 'worker left before the first step');
  } else if (event.message.kind === 'failed') {
    const { code, message } = event.message.error;
    log.warn({ workerId, code, reason: message }, 'worker could not get ready');
    worker.close('it could not get ready');
    return `; ${worker.toString()} said ${code}: ${message}`;
  } else if (event.message.kind === 'ready') {
    ready.set(worker, event.message);
    const { engine, engineFingerprint, engineNotes, numParameters } = event.message;
    log.info({ workerId, engine, engineFingerprint, numParameters }, 'worker ready');
    const said = new Set(
      [...ready].flatMap(([other, { engineNotes }]) => (other === worker ? [] : (engineNotes ?? []))),
    );
    for (const reason of engineNotes ?? [])
      if (!said.has(reason)) log.warn({ workerId, reason }, 'engine not as it could be');
  } else
    throw new TrainerError(
      'MESSAGE_INVALID',
      `${workerId} sent ${event.message.kind} before the generation was formed`,
    );
  return undefined;
}
