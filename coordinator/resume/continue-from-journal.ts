/**
 * Going on where a coordinator died: its journal says what is committed, which may be further than the newest checkpoint; the workers may
 * still hold the state. The plan is the same as before, so the rows up to there are dealt once more, to nobody.
 */
import { isDeepStrictEqual } from 'node:util';
import { numericsHash } from '../../shared/config/load-config.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createDealer } from '../deal/step-dealer.ts';
import type { PastGeneration } from '../membership/generation.ts';
import type { JournalState } from '../journal/journal-records.ts';
import type { StartInit, StartingPoint } from './starting-point.ts';
import { journalCursor } from '../deal/rate-changes.ts';

/** The generation that trained when the coordinator died; undefined where it ended in order, or nobody had trained. */
export function openGeneration({ ending, generation }: JournalState): PastGeneration | undefined {
  return ending === 'open' ? generation : undefined;
}

/** Whether configuration and mixture are those that the run was opened with: what workers hold of another one is not gone on with. */
export function isSamePlan({ opened }: JournalState, { config, mixture }: StartInit): boolean {
  return opened?.configHash === numericsHash(config) && opened.mixtureHash === mixture.hash;
}

/**
 * The start at a step that workers hold.
 * @param saved from the newest checkpoint, or from the beginning
 * @param step the last committed one, or an earlier one
 * @throws CHECKPOINT_MISMATCH, MIXTURE_MISMATCH for another configuration or mixture; JOURNAL_CORRUPT where the plan does not come to the
 *   place that the journal has
 */
export async function goOnFrom(
  saved: StartingPoint,
  state: JournalState,
  step: number,
  init: StartInit,
): Promise<StartingPoint> {
  const { config, mixture } = init;
  const configHash = numericsHash(config);
  if (state.opened?.configHash !== configHash)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `the run was opened with another configuration (${state.opened?.configHash}, now ${configHash}): model, seed, schedule, mixture rates ` +
        'and sizes of a step must be as they were to go on',
    );
  if (state.opened.mixtureHash !== mixture.hash)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `the run was opened with the prepared mixture ${state.opened.mixtureHash}, found ${mixture.hash} in ${mixture.folder}; restore what it ` +
        'was prepared from, or go on from the newest checkpoint by --allow-mixture-change',
    );
  if (step <= saved.step) return saved;
  const dealer = createDealer(init, saved);
  while (dealer.step < step) await dealer.deal();
  const { cursor } = dealer;
  const expected = state.lastCommit?.cursor;
  if (step === state.step && expected !== undefined && !isDeepStrictEqual(journalCursor(cursor), expected))
    throw new TrainerError(
      'JOURNAL_CORRUPT',
      `step ${state.step}: expected the plan at ${JSON.stringify(expected)}, found it at ${JSON.stringify(journalCursor(cursor))}; ` +
        'resume from a checkpoint folder into a new run',
    );
  const note = `goes on at step ${step}, ${step - saved.step} steps after the newest checkpoint, from what the workers hold`;
  return { ...saved, step, cursor, notes: [...saved.notes, note] };
}
