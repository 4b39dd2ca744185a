/** Which checkpoint of a run is evaluated next, and why (`exmix evaluate --follow`). Pure. */
import type { CheckpointPublished, JournalState } from '../../coordinator/journal/journal-records.ts';
import { listNames } from '../../shared/list-names.ts';

export type FollowedCheckpoint = Pick<CheckpointPublished, 'step' | 'paramDigest'>;

export interface FollowedRun {
  /** In the order of their publication; of each step the last one. */
  readonly published: readonly FollowedCheckpoint[];
  readonly ending: JournalState['ending'];
  /** The last committed step. */
  readonly step: number;
}

export type NextAct =
  | { readonly kind: 'evaluate'; readonly checkpoint: FollowedCheckpoint; readonly reason: string }
  | { readonly kind: 'wait' | 'end'; readonly reason: string };

/**
 * The newest checkpoint comes first, so that results keep up with a run that publishes faster than it is evaluated. Older ones wait, and are
 * evaluated later if retention has not removed them by then.
 * @param isSettled whether it is evaluated or skipped
 */
export function decideNext(
  { published, ending, step }: FollowedRun,
  isSettled: (checkpoint: FollowedCheckpoint) => boolean,
): NextAct {
  const left = published.filter((checkpoint) => !isSettled(checkpoint));
  const checkpoint = left.at(-1);
  if (checkpoint !== undefined) {
    const older = left.slice(0, -1);
    const waiting =
      older.length === 0 ? '' : `; ${describeSteps(older)} wait${older.length === 1 ? 's' : ''}: this one is newer`;
    return { kind: 'evaluate', checkpoint, reason: `step ${checkpoint.step} is evaluated${waiting}` };
  }
  switch (ending) {
    case 'none':
      return { kind: 'wait', reason: 'waiting for the run to begin' };
    case 'open': {
      const last = published.at(-1);
      const next = last === undefined ? 'the first checkpoint' : `the next checkpoint after step ${last.step}`;
      return { kind: 'wait', reason: `waiting for ${next}` };
    }
    case 'interrupted':
      return { kind: 'wait', reason: `the run was interrupted at step ${step}; waiting for it to be resumed` };
    case 'finished':
      return { kind: 'end', reason: `the run has finished at step ${step}` };
  }
}

/** `step 2`, `steps 2 and 4` */
export function describeSteps(checkpoints: readonly FollowedCheckpoint[]): string {
  return `${checkpoints.length === 1 ? 'step' : 'steps'} ${listNames(checkpoints.map(({ step }) => step))}`;
}
