/** What follows for the members from how their generation has broken: strikes, and being left out. Call it when they have dropped it. */
import { BrokenLinks } from './broken-links.ts';
import type { Committer } from '../step/committer.ts';
import type { Generation, BrokenGeneration } from '../membership/generation.ts';
import type { Roster } from '../membership/roster.ts';
import { TrainerError } from '../../shared/errors.ts';

export class Consequences {
  readonly #roster: Roster;
  readonly #committer: Committer;
  readonly #brokenLinks = new BrokenLinks();
  readonly #divergence = new RepeatedDivergence();

  constructor({ roster, committer }: { readonly roster: Roster; readonly committer: Committer }) {
    this.#roster = roster;
    this.#committer = committer;
  }

  /**
   * @param step the last one that was committed when it broke
   * @throws GRADIENT_DIVERGED where ranks differ without a majority again and again
   */
  draw({ error, culprits = [], links, outliers }: BrokenGeneration, { members }: Generation, step: number): void {
    const roster = this.#roster;
    for (const outlier of outliers ?? []) roster.strike(outlier, step + 1, error.message);
    const isRepeated = outliers?.length === 0 ? this.#divergence.add(step, error) : undefined;
    if (isRepeated !== undefined) throw isRepeated;
    for (const culprit of culprits) {
      roster.strike(culprit, step + 1, error.message);
      if (roster.of(culprit) !== undefined) culprit.drop('WORKER_LOST', error.message); // it failed and is still there
    }
    const areAllThere = members.every((worker) => roster.of(worker) !== undefined);
    if (links === undefined || !areAllThere) {
      this.#brokenLinks.forget();
      return;
    }
    const ids = members.map(({ workerId }) => workerId);
    const leftOut = this.#brokenLinks.broke(this.#committer.step, links, ids, (id) => this.#canBeSpared(id));
    if (leftOut !== undefined) roster.leaveOut(leftOut.workerId, leftOut.reason);
  }

  /** Somebody else holds the state, or nobody does. */
  #canBeSpared(workerId: string): boolean {
    const holders = this.#roster.ready.filter(({ heldStep }) => this.#committer.isState(heldStep));
    return holders.length === 0 || holders.some(({ worker }) => worker.workerId !== workerId);
  }
}

// FOLDED penalties.ts
/**
 * Ranks that differ until no state is left that can be trusted, again and again: their step is done anew from an earlier state, but not
 * without end.
 * Pure but for its count.
 */

/** So often in a row in the same step. */
const MOST_IN_A_ROW = 3;

export class RepeatedDivergence {
  #step = -1;
  #count = 0;

  /** @param step the furthest that was ever committed @returns the error that ends the run, where it is to end */
  add(step: number, error: TrainerError): TrainerError | undefined {
    this.#count = step === this.#step ? this.#count + 1 : 1;
    this.#step = step;
    if (this.#count < MOST_IN_A_ROW) return undefined;
    const message = `${this.#count} times in a row ranks differed and no state was left that can be trusted; the last time: ${error.message}`;
    return new TrainerError(error.code, message, { cause: error });
  }
}
