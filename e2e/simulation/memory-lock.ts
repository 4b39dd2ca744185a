/**
 * The lock of the run folder, as in coordinator/run-folder/run-lock.ts. A running owner renews it. Another process may acquire it if the
 * owner has crashed or has not renewed it within the lease, as for an owner on another host. Reading and renewing take no time.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { VirtualTime } from './virtual-clock.ts';
import type { VirtualProcess } from './virtual-process.ts';

/** Short, like all deadlines of the simulated run. */
export const LEASE_MS = 6_000;
const RENEW_MS = 1_000;

interface Holder {
  readonly process: VirtualProcess;
  renewedMs: number;
}

export interface HeldLock {
  /** The former owner may still be alive, but stopped. */
  readonly isTakenOver: boolean;
  readonly lost: AbortSignal;
  release(): void;
}

export class MemoryLock {
  readonly #time: VirtualTime;
  #holder: Holder | undefined;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  /** @throws RUN_LOCKED */
  acquire(process: VirtualProcess): HeldLock {
    const before = this.#holder;
    const ageMs = this.#time.nowMs - (before?.renewedMs ?? 0);
    if (before !== undefined && before.process.state !== 'crashed' && ageMs <= LEASE_MS)
      throw new TrainerError('RUN_LOCKED', `held by ${before.process.name}, renewed ${ageMs} ms ago`);
    const holder: Holder = { process, renewedMs: this.#time.nowMs };
    this.#holder = holder;
    const [lost, released] = [new AbortController(), new AbortController()];
    void this.#renew(holder, lost, released.signal);
    return {
      isTakenOver: before !== undefined,
      lost: lost.signal,
      release: () => {
        released.abort();
        if (this.#holder === holder) this.#holder = undefined;
      },
    };
  }

  async #renew(holder: Holder, lost: AbortController, released: AbortSignal): Promise<void> {
    const { clock } = holder.process;
    for (;;) {
      try {
        await clock.sleep(RENEW_MS, released);
      } catch {
        return; // released
      }
      if (this.#holder !== holder) {
        lost.abort(new TrainerError('RUN_LOCKED', 'the lock was taken over by another coordinator'));
        return;
      }
      holder.renewedMs = this.#time.nowMs;
    }
  }
}
