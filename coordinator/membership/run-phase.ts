/** What a coordinator is doing, what it waits for, and whether it was asked to stop. `exmix status` shows all three. */
import type { Logger } from '../../shared/logger.ts';

export type PhaseName = 'starting' | 'rendezvous' | 'forming' | 'training' | 'ending';

export class RunPhase {
  name: PhaseName = 'starting';
  readonly #log: Logger;
  #waitingFor = '';
  #stopReason: string | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** What the coordinator waits for; '' while it waits for nothing. */
  get waitingFor(): string {
    return this.#waitingFor;
  }

  /** Why the run is to stop; undefined until a stop was requested. */
  get stopReason(): string | undefined {
    return this.#stopReason;
  }

  /** Logs the reason when it changes. */
  waitFor(reason: string): void {
    if (reason === this.#waitingFor) return;
    this.#waitingFor = reason;
    if (reason !== '') this.#log.info({ reason }, 'waiting');
  }

  /** The first reason counts. */
  requestStop(reason: string): void {
    if (this.#stopReason !== undefined) return;
    this.#stopReason = reason;
    this.#log.info({ reason }, 'run is to stop');
  }
}
