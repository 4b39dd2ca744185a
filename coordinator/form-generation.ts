/** From workers that are ready to a generation whose data links are up: the last checks before the first step. */
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { fromErrorRecord, TrainerError } from '../shared/errors.ts';
import { assignLanes } from '../shared/assign-lanes.ts';
import type { Logger } from '../shared/logger.ts';
import type { WorkerMessage } from '../shared/protocol/messages.ts';
import type { ControlServer, WorkerHandle } from './control-server.ts';
import type { Journal } from './journal.ts';
import type { Generation } from './training.ts';

export type ReadyMessage = Extract<WorkerMessage, { kind: 'ready' }>;

/**
 * All must hold the same parameters, engine and mixture, or the bits would not be those of any number of workers.
 * @param expectedDigest of the parameters, where the run starts from a checkpoint
 * @throws STATE_DIVERGED, MIXTURE_MISMATCH naming the worker
 */
export function checkAlike(
  ready: ReadonlyMap<WorkerHandle, ReadyMessage>,
  mixtureHash: string,
  expectedDigest: string | undefined,
): void {
  const [reference] = ready.values();
  for (const [worker, message] of ready) {
    const check = (
      code: 'STATE_DIVERGED' | 'MIXTURE_MISMATCH',
      what: string,
      expected: string,
      found: string,
    ): void => {
      if (expected !== found)
        throw new TrainerError(
          code,
          `${worker.toString()}: expected ${what} ${expected}, got ${found}; all workers of a run must be alike`,
        );
    };
    check('MIXTURE_MISMATCH', 'mixture', mixtureHash, message.mixtureHash);
    check('STATE_DIVERGED', 'engine', reference!.engineFingerprint, message.engineFingerprint);
    check('STATE_DIVERGED', 'parameters', expectedDigest ?? reference!.paramDigest, message.paramDigest);
  }
}

export interface FormInit {
  readonly members: readonly WorkerHandle[];
  readonly epoch: number;
  readonly generation: number;
  readonly firstStep: number;
  readonly config: RunConfig;
  readonly server: ControlServer;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly log: Logger;
  /** What is being waited for. */
  readonly explain: (reason: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Deals lanes and ranks, and waits until every member has its links.
 * @throws RENDEZVOUS_TIMEOUT, WORKER_LOST, ABORTED
 */
export async function formGeneration(init: FormInit): Promise<Generation> {
  const { members, epoch, generation, firstStep, config, server, journal, clock, log, explain, signal } = init;
  const { runs, reason } = assignLanes(config.training.numLanes, members.length);
  const memberIds = members.map(({ workerId }) => workerId);
  const lanes = runs.map(({ first, end }): [number, number] => [first, end]);
  await journal.append({ kind: 'generation-formed', epoch, generation, firstStep, members: memberIds, lanes });
  const views = members.map(({ workerId, host, dataUrl }, rank) => ({ workerId, rank, host, dataUrl }));
  for (const [rank, member] of members.entries())
    member.send({ kind: 'form', epoch, generation, rank, members: views, firstStep });
  const waiting = new Set(members);
  const deadlineMs = clock.monotonicMs() + config.cluster.heartbeatTimeoutMs;
  while (waiting.size > 0) {
    const waitingFor = `waiting for the data links of ${[...waiting].map(({ workerId }) => workerId).join(', ')}`;
    explain(waitingFor);
    const leftMs = deadlineMs - clock.monotonicMs();
    const event = leftMs > 0 ? await server.events.next(leftMs, signal) : undefined;
    if (event === undefined) throw new TrainerError('RENDEZVOUS_TIMEOUT', waitingFor);
    if (event.kind === 'joined') event.worker.refuse();
    else if (event.kind === 'lost' && members.includes(event.worker)) throw event.error;
    else if (event.kind === 'message' && event.message.kind === 'formed') waiting.delete(event.worker);
    else if (event.kind === 'message' && event.message.kind === 'failed') {
      const cause = fromErrorRecord(event.message.error);
      throw new TrainerError(
        'WORKER_LOST',
        `${event.worker.toString()} could not link up: ${cause.code}: ${cause.message}`,
        { cause },
      );
    }
  }
  log.info({ epoch, generation, worldSize: members.length, members: memberIds, reason }, 'generation formed');
  return { epoch, generation, members, runs };
}
