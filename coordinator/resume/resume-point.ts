/**
 * Where a run continues that nobody has ended. Its journal may be further than the newest checkpoint, and workers may still hold the state.
 * The plan is deterministic: the rows of the steps since the checkpoint are dealt again and sent to nobody.
 */
import { isDeepStrictEqual } from 'node:util';
import { numericsHash } from '../../shared/config/load-config.ts';
import { TrainerError } from '../../shared/errors.ts';
import { journalCursor } from '../deal/rate-changes.ts';
import { createDealer } from '../deal/step-dealer.ts';
import type { JournalState } from '../journal/journal-records.ts';
import type { PastGeneration } from '../membership/generation.ts';
import type { StartInit, StartingPoint } from './starting-point.ts';

export type ResumePoint =
  /** The last committed step of the journal, whose state workers may hold. */
  | { readonly kind: 'journal' }
  /** An earlier step, whose state a worker holds. */
  | { readonly kind: 'held-step'; readonly step: number }
  /** No worker holds a state that counts. */
  | { readonly kind: 'newest-checkpoint' };

export interface ResumedStart {
  readonly start: StartingPoint;
  /** The generation that trained last, whose members may hold the state of `start`; undefined: load the checkpoint. */
  readonly before: PastGeneration | undefined;
}

/**
 * A run that was ended in order, or in which nobody has trained, starts from its newest checkpoint.
 * @param saved the newest checkpoint, or the beginning
 * @throws CHECKPOINT_MISMATCH, MIXTURE_MISMATCH for another configuration or mixture than the run was opened with; JOURNAL_CORRUPT where the
 *   plan does not reach the cursor of the journal
 */
export async function resumeFrom(
  point: ResumePoint,
  saved: StartingPoint,
  state: JournalState,
  init: StartInit,
): Promise<ResumedStart> {
  const { ending, generation } = state;
  if (point.kind === 'newest-checkpoint' || ending !== 'open' || generation === undefined)
    return { start: saved, before: undefined };
  const step = point.kind === 'held-step' ? point.step : state.step;
  checkSamePlan(state, init);
  return { start: step <= saved.step ? saved : await replayPlan(saved, state, step, init), before: generation };
}

/** Whether configuration and mixture are those that the run was opened with. Otherwise the states of its workers do not count. */
export function hasSamePlan({ opened }: JournalState, { config, mixture }: StartInit): boolean {
  return opened?.configHash === numericsHash(config) && opened.mixtureHash === mixture.hash;
}

/** @throws CHECKPOINT_MISMATCH, MIXTURE_MISMATCH */
function checkSamePlan({ opened }: JournalState, { config, mixture }: StartInit): void {
  const configHash = numericsHash(config);
  if (opened?.configHash !== configHash)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `the run was opened with another configuration (${opened?.configHash}, now ${configHash}): model, seed, schedule, mixture rates ` +
        'and sizes of a step must be as they were to continue',
    );
  if (opened.mixtureHash !== mixture.hash)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `the run was opened with the prepared mixture ${opened.mixtureHash}, found ${mixture.hash} in ${mixture.folder}; restore its sources, ` +
        'or continue from the newest checkpoint with --allow-mixture-change',
    );
}

/** Deals the steps after the checkpoint again, up to this one. @throws JOURNAL_CORRUPT */
async function replayPlan(
  saved: StartingPoint,
  { step: committedStep, lastCommit }: JournalState,
  step: number,
  init: StartInit,
): Promise<StartingPoint> {
  const dealer = createDealer(init, saved);
  while (dealer.step < step) await dealer.deal();
  const { cursor } = dealer;
  const expected = lastCommit?.cursor;
  if (step === committedStep && expected !== undefined && !isDeepStrictEqual(journalCursor(cursor), expected))
    throw new TrainerError(
      'JOURNAL_CORRUPT',
      `step ${step}: expected the plan at ${JSON.stringify(expected)}, found it at ${JSON.stringify(journalCursor(cursor))}; ` +
        'resume from a checkpoint folder into a new run',
    );
  const note = `continues at step ${step}, ${step - saved.step} steps after the newest checkpoint, from the states that workers hold`;
  return { ...saved, step, cursor, notes: [...saved.notes, note] };
}
