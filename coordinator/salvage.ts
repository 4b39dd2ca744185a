/**
 * After a failure: what the survivors hold is saved before the run ends. They drop the step under way, say how far they are,
 * and those who are furthest write a checkpoint, if it is further than the last one.
 */
import { TrainerError, type ErrorCode } from '../shared/errors.ts';
import type { Clock } from '../shared/clock.ts';
import type { ControlServer, WorkerHandle } from './control-server.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { Saver } from './saver.ts';
import type { Generation, Training } from './training.ts';

/** Time for the survivors to drop their step, ms. */
const ABORT_DEADLINE_MS = 20_000;
/** Longest time for them to write, ms. */
const SAVE_DEADLINE_MS = 120_000;
/** After these the parameters of the survivors are not to be trusted, nothing can be written, or nobody wants to wait. */
const NOT_SALVAGED: readonly ErrorCode[] = [
  'GRADIENT_DIVERGED',
  'STATE_DIVERGED',
  'DISK_FULL',
  'JOURNAL_CORRUPT',
  'INTERNAL',
  'ABORTED',
];

export interface Salvage {
  readonly checkpoint?: PublishedCheckpoint;
  /** One sentence: what was saved, or why nothing. */
  readonly reason: string;
}

export interface SalvageInit {
  readonly failure: TrainerError;
  readonly server: ControlServer;
  readonly generation: Generation;
  readonly training: Training;
  readonly saver: Saver;
  readonly clock: Clock;
  /** Time for a checkpoint in this run, ms. */
  readonly stepTimeoutMs: number;
}

/** Never throws: a failure to save becomes the reason. */
export async function salvage(init: SalvageInit): Promise<Salvage> {
  const { failure, server, generation, training } = init;
  if (NOT_SALVAGED.includes(failure.code)) return { reason: `nothing was saved after ${failure.code}` };
  const survivors = server.workers().filter((worker) => generation.members.includes(worker));
  if (survivors.length === 0) return { reason: 'no worker survived to save from' };
  try {
    init.saver.abandon();
    const steps = await abortStep(init, survivors);
    const step = Math.max(-1, ...steps.values());
    const holders = survivors.filter((worker) => steps.get(worker) === step);
    if (holders.length === 0) return { reason: 'no survivor answered in time' };
    await training.settle(step);
    if (training.committedStep !== step)
      return { reason: `the survivors are at step ${step}, the journal at ${training.committedStep}` };
    if (step === training.savedStep) return { reason: `step ${step} was saved already` };
    const checkpoint = await saveFrom(init, holders);
    return {
      checkpoint,
      reason: `step ${step} was saved by ${holders.length} of ${generation.members.length} workers`,
    };
  } catch (error) {
    return { reason: `saving failed: ${(error as Error).message}` };
  }
}

/** @returns how far each survivor that answered is; what they reported before is counted */
async function abortStep(init: SalvageInit, survivors: readonly WorkerHandle[]): Promise<Map<WorkerHandle, number>> {
  const { failure, server, generation, training, clock } = init;
  const { epoch } = generation;
  for (const worker of survivors)
    worker.send({ kind: 'abort', epoch, generation: generation.generation, reason: failure.message });
  const steps = new Map<WorkerHandle, number>();
  const pending = new Set(survivors);
  const deadlineMs = clock.monotonicMs() + ABORT_DEADLINE_MS;
  while (pending.size > 0) {
    const event = await server.events.next(deadlineMs - clock.monotonicMs());
    if (event === undefined) break;
    if (event.kind === 'lost') {
      pending.delete(event.worker);
      steps.delete(event.worker);
    }
    if (event.kind === 'message' && event.message.kind === 'report')
      await training.takeLateReport(event.worker, event.message);
    if (event.kind === 'message' && event.message.kind === 'aborted' && pending.delete(event.worker))
      steps.set(event.worker, event.message.step);
  }
  return steps;
}

/** @throws WORKER_LOST when a writer dies or is late, and what Saver.saved throws */
async function saveFrom(
  { server, training, saver, clock, stepTimeoutMs }: SalvageInit,
  holders: readonly WorkerHandle[],
): Promise<PublishedCheckpoint> {
  await saver.start(training.savePoint, holders, 'the run ends');
  const limitMs = Math.min(SAVE_DEADLINE_MS, stepTimeoutMs);
  const deadlineMs = clock.monotonicMs() + limitMs;
  for (;;) {
    const event = await server.events.next(deadlineMs - clock.monotonicMs());
    if (event === undefined) {
      const late = saver.missing().map(({ workerId }) => workerId);
      throw new TrainerError('WORKER_LOST', `${late.join(', ')} did not write within ${limitMs} ms`);
    }
    if (event.kind === 'lost' && holders.includes(event.worker)) throw event.error;
    if (event.kind !== 'message' || event.message.kind !== 'saved') continue;
    const published = await saver.saved(event.worker, event.message);
    if (published !== undefined) return published;
  }
}
