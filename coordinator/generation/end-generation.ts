/**
 * Ends a generation that cannot continue: the survivors abort the step in progress and report the last step they applied; a step that one
 * of them has applied is committed. Members that are behind copy the state when the next generation forms.
 *
 * Idempotent: a member is told once, and nothing is sent where the generation is over.
 */
import type { Clock } from '../../shared/clock.ts';
import type { TrainerError } from '../../shared/errors.ts';
import type { ControlServer } from '../membership/control-server.ts';
import type { Generation } from '../membership/generation.ts';
import type { Roster } from '../membership/roster.ts';
import type { Saver } from '../checkpoint/saver.ts';
import type { StepSettlement } from '../step/step-settlement.ts';

/** Time for the survivors to abort, ms. A microbatch is not interrupted; a worker that needs longer is dropped. */
const ABORT_DEADLINE_MS = 20_000;

export interface EndInit {
  readonly error: TrainerError;
  readonly generation: Generation;
  readonly server: ControlServer;
  readonly roster: Roster;
  readonly settlement: StepSettlement;
  readonly saver: Saver;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

/** Afterwards each member has answered, or is no worker of this run any more. @throws ABORTED */
export async function endGeneration(init: EndInit): Promise<void> {
  const { error, generation, server, roster, settlement, saver, clock, signal } = init;
  const { epoch, generation: number } = generation;
  const connected = new Set(server.workers());
  const pending = new Set(generation.members.filter((worker) => connected.has(worker) && worker.generation === number));
  for (const worker of pending) worker.abortWork(epoch, error.message);
  const deadlineMs = clock.monotonicMs() + ABORT_DEADLINE_MS;
  while (pending.size > 0) {
    const event = await server.events.next(Math.max(0, deadlineMs - clock.monotonicMs()), signal);
    if (event === undefined) {
      for (const worker of pending)
        worker.dropAsHung('WORKER_LOST', `it did not abort its step within ${ABORT_DEADLINE_MS} ms`);
      break;
    }
    const { worker } = event;
    if (event.kind === 'lost') pending.delete(worker);
    if (event.kind === 'message' && event.message.kind === 'aborted' && event.message.generation === number) {
      worker.endWork();
      if (pending.delete(worker)) roster.setHeldStep(worker, event.message.step);
    } else roster.handle(event);
  }
  await saver.abandon(error.message);
  await settlement.settleFurthest();
}
