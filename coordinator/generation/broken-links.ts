/**
 * Decides which member is left out when generations keep breaking on their links. Pure, apart from its counts.
 *
 * Definition: a generation broke on its links if all members are alive and one of them lost, or could not make, a link. A committed step
 * starts the count anew. Each failure names the member that reports it, and the members at the other end where it knows them.
 *
 * Rule: after one or two such generations the same members try again. After the third the member named most often is left out; among
 * equals, the one with the highest rank. A member on trial (link-pauses.ts) that is named is left out after the first one. A member that alone
 * holds the state is never left out.
 */
import { listNames } from '../../shared/list-names.ts';
import type { LinkFailure } from '../membership/generation.ts';
import { MAX_IN_A_ROW } from '../membership/step-streak.ts';

export interface LeftOut {
  readonly workerId: string;
  readonly reason: string;
}

export class BrokenLinks {
  #numInARow = 0;
  #step = -1;
  readonly #named = new Map<string, number>();

  /**
   * Counts one more generation that broke on its links.
   * @param step the last committed one
   * @param members ids in rank order @param mayLeave whether the run can do without a member @param isOnTrial it was left out before
   * @returns the member to leave out; undefined where all try again
   */
  broke(
    step: number,
    failures: readonly LinkFailure[],
    members: readonly string[],
    mayLeave: (workerId: string) => boolean,
    isOnTrial: (workerId: string) => boolean = () => false,
  ): LeftOut | undefined {
    if (step !== this.#step) this.forget();
    this.#step = step;
    this.#numInARow += 1;
    for (const id of failures.flatMap(({ workerId, peers }) => [workerId, ...peers]))
      this.#named.set(id, (this.#named.get(id) ?? 0) + 1);
    const isTriedAgain = this.#numInARow < MAX_IN_A_ROW;
    const candidates = members
      .map((workerId, rank) => ({ workerId, rank, count: this.#named.get(workerId) ?? 0 }))
      .filter(({ workerId, count }) => count > 0 && mayLeave(workerId) && (!isTriedAgain || isOnTrial(workerId)))
      .sort((a, b) => b.count - a.count || b.rank - a.rank);
    const [chosen] = candidates;
    if (chosen === undefined) return undefined;
    const named = [...this.#named].sort(([, a], [, b]) => b - a).map(([id, count]) => `${id} ${count} times`);
    const broken = this.#numInARow === 1 ? '1 generation' : `${this.#numInARow} generations in a row`;
    const reason =
      `${broken} broke on ${this.#numInARow === 1 ? 'its' : 'their'} links after step ${step}, ` +
      `and the failures name ${listNames(named)}: ${chosen.workerId} is left out for a while`;
    this.forget();
    return { workerId: chosen.workerId, reason };
  }

  /** Call it when a generation ended for another reason. */
  forget(): void {
    this.#numInARow = 0;
    this.#named.clear();
  }
}
