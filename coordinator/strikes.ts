/** Which workers fail again and again at the same point: pure but for the counts. */

/** Failures in the same step after which a worker is not admitted any more. */
const MOST_STRIKES = 3;

interface Record {
  readonly step: number;
  readonly count: number;
  readonly reason: string;
}

export class Strikes {
  readonly #records = new Map<string, Record>();

  /**
   * Counts a failure; one in another step begins anew.
   * @param step the step that was under way
   * @returns why the worker is excluded, with the last one it can have
   */
  add(workerId: string, step: number, reason: string): string | undefined {
    const before = this.#records.get(workerId);
    const count = before?.step === step ? before.count + 1 : 1;
    this.#records.set(workerId, { step, count, reason });
    return this.reason(workerId);
  }

  /** Why a worker is not admitted; undefined where it is. */
  reason(workerId: string): string | undefined {
    const record = this.#records.get(workerId);
    if (record === undefined || record.count < MOST_STRIKES) return undefined;
    return `${workerId} has failed ${record.count} times in step ${record.step}, last: ${record.reason}`;
  }
}
