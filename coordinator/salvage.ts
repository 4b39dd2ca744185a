/** After a failure that ends the run: what the survivors hold is saved, if it is further than the last checkpoint. */
import { TrainerError, type ErrorCode } from '../shared/errors.ts';
import type { Clock } from '../shared/clock.ts';
import type { Committer } from './committer.ts';
import type { ControlServer } from './control-server.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import { endGeneration } from './end-generation.ts';
import type { Generation } from './form-generation.ts';
import type { Roster } from './roster.ts';
import type { Saver } from './saver.ts';
import type { Settling } from './settling.ts';
import type { WorkerHandle } from './worker-handle.ts';

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
  /** The last one; it may be over. */
  readonly generation: Generation;
  readonly roster: Roster;
  readonly committer: Committer;
  readonly settling: Settling;
  readonly saver: Saver;
  readonly clock: Clock;
  /** Time for a checkpoint in this run, ms. */
  readonly stepTimeoutMs: number;
}

/** Never throws: a failure to save becomes the reason. */
export async function salvage(init: SalvageInit): Promise<Salvage> {
  const { failure, generation, roster, committer, saver } = init;
  if (NOT_SALVAGED.includes(failure.code)) return { reason: `nothing was saved after ${failure.code}` };
  try {
    await endGeneration({ ...init, error: failure });
    const step = committer.step;
    const holders = roster.ready
      .filter(({ worker, heldStep }) => committer.isState(heldStep) && generation.members.includes(worker))
      .map(({ worker }) => worker);
    if (holders.length === 0) return { reason: `no worker survived with the state of step ${step}` };
    if (step === saver.savedStep) return { reason: `step ${step} was saved already` };
    const checkpoint = await saveFrom(init, holders);
    const reason = `step ${step} was saved by ${holders.length} of ${generation.members.length} workers`;
    return { checkpoint, reason };
  } catch (error) {
    return { reason: `saving failed: ${(error as Error).message}` };
  }
}

/** @throws WORKER_LOST when a writer dies or is late, and what Saver.saved throws */
async function saveFrom(
  { server, generation, committer, saver, clock, stepTimeoutMs }: SalvageInit,
  holders: readonly WorkerHandle[],
): Promise<PublishedCheckpoint> {
  const { step, stateStep, cursor } = committer;
  const point = { step, cursor, generation: generation.generation, worldSize: generation.members.length };
  await saver.start(point, holders, 'the run ends', stateStep);
  const limitMs = Math.min(SAVE_DEADLINE_MS, stepTimeoutMs);
  const deadlineMs = clock.monotonicMs() + limitMs;
  for (;;) {
    const event = await server.events.next(Math.max(0, deadlineMs - clock.monotonicMs()));
    if (event === undefined) {
      const late = saver.missing().map(({ workerId }) => workerId);
      throw new TrainerError('WORKER_LOST', `${late.join(', ')} did not write within ${limitMs} ms`);
    }
    if (event.kind === 'lost' && holders.includes(event.worker)) throw event.error;
    if (event.kind !== 'message' || event.message.kind !== 'saved') continue;
    if (!saver.isWriting(event.worker, event.message)) continue;
    const outcome = await saver.saved(event.worker, event.message);
    if (outcome?.kind === 'differ') throw outcome.error;
    if (outcome !== undefined) return outcome.checkpoint;
  }
}
