/** The deadlines of one generation at work: gathers what the pure rules of deadlines.ts look at. */
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import type { TrainerError } from '../shared/errors.ts';
import type { WorkerHandle } from './control-server.ts';
import { findOverdue, type Overdue, type Symptom } from './deadlines.ts';
import type { Saver } from './saver.ts';
import { StalledTime } from './worker-stall.ts';

/** A look that comes so much too late says that this process itself stood still: then nobody is late, ms. */
const OWN_PAUSE_MS = 1_000;

export interface WatchInit {
  readonly config: RunConfig;
  readonly clock: Clock;
  readonly saver: Pick<Saver, 'writing'>;
  /** In rank order. */
  readonly members: readonly WorkerHandle[];
  /** Somebody looks so often, ms. */
  readonly tickMs: number;
}

/** The oldest step that is dealt and not committed. */
export interface OpenStepView {
  readonly step: number;
  readonly sinceMs: number;
  /** Ranks whose report is missing. */
  readonly missing: readonly number[];
}

export class Watch {
  readonly #init: WatchInit;
  readonly #stalledTime = new StalledTime();
  #lookedMs: number;
  #symptom: Symptom | undefined;

  constructor(init: WatchInit) {
    this.#init = init;
    this.#lookedMs = init.clock.monotonicMs();
  }

  /** A failure that may be the effect of another one, which is yet to be heard of. */
  suspect(error: TrainerError): void {
    this.#symptom ??= { error, sinceMs: this.#init.clock.monotonicMs() };
  }

  /** @returns why the generation cannot go on; undefined while everything is in time */
  look(open: OpenStepView | undefined): Overdue<WorkerHandle> | undefined {
    const { clock, config, saver, members, tickMs } = this.#init;
    const nowMs = clock.monotonicMs();
    const stoodStill = nowMs - this.#lookedMs > tickMs + OWN_PAUSE_MS;
    this.#lookedMs = nowMs;
    if (stoodStill) return undefined;
    const stalledMs = this.#stalledTime.look(nowMs, open?.step ?? -1, members, open?.missing ?? []);
    return findOverdue(
      nowMs,
      { ...config.cluster, ...config.feed },
      {
        members,
        ...(this.#symptom === undefined ? {} : { symptom: this.#symptom }),
        ...(open === undefined ? {} : { step: { ...open, stalledMs } }),
        ...(saver.writing === undefined ? {} : { checkpoint: saver.writing }),
      },
    );
  }
}
