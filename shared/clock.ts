/** Time as a collaborator: the system's in the product, a fake in tests. All times are milliseconds. */
import { setTimeout as sleep } from 'node:timers/promises';
import { TrainerError } from './errors.ts';

export interface Clock {
  /** Monotonic time, ms; only differences have a meaning. */
  monotonicMs(): number;
  /** Wall-clock time, ms since 1970 (UTC); for names and logs only. */
  wallMs(): number;
  /** Resolves after `ms`. @throws ABORTED when the signal fires first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  async sleep(ms, signal) {
    try {
      await sleep(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      throw new TrainerError('ABORTED', `waiting for ${ms} ms was aborted`, { cause: error });
    }
  },
};
