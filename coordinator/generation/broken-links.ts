/**
 * Generations whose links break again and again: who is left out for a while. Pure but for the failures of the last few.
 *
 * Definition: a generation broke on its links where all its members live and one of them lost, or could not make, a link; a committed
 * step begins the count anew. Every failure names the member that tells it, and the members at the other end where it knows them.
 *
 * Rule: once or twice is chance, and the same members try again. After that the one who is named most is left out, of several the one
 * with the highest rank, for the others are then more likely to be well connected. Who alone holds the state is never left out.
 */
import { listNames } from '../../shared/list-names.ts';
import type { LinkFailure } from '../membership/generation.ts';

/** Generations in a row that may break on their links. */
const MOST_IN_A_ROW = 3;

export interface LeftOut {
  readonly workerId: string;
  readonly reason: string;
}

export class BrokenLinks {
  #numInARow = 0;
  #step = -1;
  readonly #named = new Map<string, number>();

  /**
   * One more generation broke on its links.
   * @param step the last committed one
   * @param members ids in rank order @param mayLeave whether a member can be spared
   * @returns who is to be left out; undefined where all of them try again
   */
  broke(
    step: number,
    failures: readonly LinkFailure[],
    members: readonly string[],
    mayLeave: (workerId: string) => boolean,
  ): LeftOut | undefined {
    if (step !== this.#step) this.forget();
    this.#step = step;
    this.#numInARow += 1;
    for (const id of failures.flatMap(({ workerId, peers }) => [workerId, ...peers]))
      this.#named.set(id, (this.#named.get(id) ?? 0) + 1);
    if (this.#numInARow < MOST_IN_A_ROW) return undefined;
    const candidates = members
      .map((workerId, rank) => ({ workerId, rank, count: this.#named.get(workerId) ?? 0 }))
      .filter(({ workerId, count }) => count > 0 && mayLeave(workerId))
      .sort((a, b) => b.count - a.count || b.rank - a.rank);
    const [chosen] = candidates;
    if (chosen === undefined) return undefined;
    const named = [...this.#named].sort(([, a], [, b]) => b - a).map(([id, count]) => `${id} ${count} times`);
    const reason =
      `${this.#numInARow} generations in a row broke on their links after step ${step}, ` +
      `and the failures name ${listNames(named)}: ${chosen.workerId} is left out for a while`;
    this.forget();
    return { workerId: chosen.workerId, reason };
  }

  /** A generation ended otherwise. */
  forget(): void {
    this.#numInARow = 0;
    this.#named.clear();
  }
}
