/** Penalties after a broken generation: members are struck, dropped, or left out for a while. */
import { TrainerError } from '../../shared/errors.ts';
import type { BrokenGeneration, Generation } from '../membership/generation.ts';
import type { Roster } from '../membership/roster.ts';
import { MAX_IN_A_ROW, StepStreak } from '../membership/step-streak.ts';
import type { Committer } from '../step/committer.ts';
import { BrokenLinks } from './broken-links.ts';

export class Penalties {
  readonly #roster: Roster;
  readonly #committer: Committer;
  readonly #brokenLinks = new BrokenLinks();
  readonly #divergence = new RepeatedDivergence();

  constructor(roster: Roster, committer: Committer) {
    this.#roster = roster;
    this.#committer = committer;
  }

  /**
   * Call it when the members have aborted.
   * @param step the last one that was committed when the generation broke
   * @throws GRADIENT_DIVERGED where ranks differ without a majority in the same step again and again
   */
  apply({ error, cause }: BrokenGeneration, { members }: Generation, step: number): void {
    const roster = this.#roster;
    const areAllConnected = members.every((worker) => roster.of(worker) !== undefined);
    if (cause.kind !== 'links' || !areAllConnected) this.#brokenLinks.forget();
    switch (cause.kind) {
      case 'members':
        for (const culprit of cause.culprits) {
          roster.strike(culprit, step + 1, error.message);
          if (roster.of(culprit) !== undefined) culprit.drop('WORKER_LOST', error.message); // it failed, its socket lives
        }
        return;
      case 'outliers':
        for (const outlier of cause.outliers) roster.strike(outlier, step + 1, error.message);
        return;
      case 'undecided': {
        const repeated = this.#divergence.add(step, error);
        if (repeated !== undefined) throw repeated;
        return;
      }
      case 'links': {
        if (!areAllConnected) return;
        const ids = members.map(({ workerId }) => workerId);
        const { failures } = cause;
        const leftOut = this.#brokenLinks.broke(
          this.#committer.step,
          failures,
          ids,
          (id) => this.#canBeSpared(id),
          (id) => roster.links.isOnTrial(id),
        );
        if (leftOut !== undefined) roster.links.leaveOut(leftOut.workerId, leftOut.reason);
        return;
      }
      case 'not-finite':
        return;
    }
  }

  /** Another worker holds the state, or no worker does. */
  #canBeSpared(workerId: string): boolean {
    const holders = this.#roster.ready.filter(({ heldStep }) => this.#committer.isState(heldStep));
    return holders.length === 0 || holders.some(({ worker }) => worker.workerId !== workerId);
  }
}

/**
 * Counts how often ranks differ in the same step without a state that can be trusted. Such a step is done again from an earlier state, but
 * not without end.
 */
export class RepeatedDivergence {
  readonly #streak = new StepStreak();

  /** @param step the furthest that was ever committed @returns the error that ends the run; undefined while it may try again */
  add(step: number, error: TrainerError): TrainerError | undefined {
    const count = this.#streak.add(step);
    if (count < MAX_IN_A_ROW) return undefined;
    const message = `${count} times in a row ranks differed and no state was left that can be trusted; the last time: ${error.message}`;
    return new TrainerError(error.code, message, { cause: error });
  }
}
