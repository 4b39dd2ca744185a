/** What follows for the members from how their generation has broken: strikes, and being left out. Call it when they have dropped it. */
import { BrokenLinks } from './broken-links.ts';
import type { Committer } from './committer.ts';
import type { Generation } from './form-generation.ts';
import { RepeatedDivergence } from './repeated-divergence.ts';
import type { Roster } from './roster.ts';
import type { BrokenGeneration } from './generation-ending.ts';

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
