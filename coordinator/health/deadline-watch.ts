/** Polls the deadlines of one generation: gathers the inputs of the pure rules in deadlines.ts and hang-rule.ts. */
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { TrainerError } from '../../shared/errors.ts';
import type { LinkFailure } from '../membership/generation.ts';
import { PauseDetector } from '../membership/tick.ts';
import { findOverdue, type Overdue, type Symptom, StalledTime } from './deadlines.ts';
import { findHung, planHangLimits, type HangVerdict } from './hang-rule.ts';
import type { RecentTimes } from '../step/step-times.ts';
import type { Saver } from '../checkpoint/saver.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';
import type { Validator } from '../validation/validator.ts';

export interface DeadlineWatchInit {
  readonly config: RunConfig;
  readonly clock: Clock;
  readonly saver: Pick<Saver, 'writing'>;
  readonly validator: Pick<Validator, 'underWay'>;
  /** Times of the last steps of the run. */
  readonly stepTimes: RecentTimes;
  /** In rank order. */
  readonly members: readonly WorkerHandle[];
}

/** The oldest step that is dealt and not committed. */
export interface OpenStepView {
  readonly step: number;
  readonly sinceMs: number;
  /** Ranks whose report is missing. */
  readonly missing: readonly number[];
}

export interface OverdueGeneration extends Overdue<WorkerHandle> {
  /** Broken links between members that are alive, as the members reported them. */
  readonly links?: readonly LinkFailure[];
}

export class DeadlineWatch {
  readonly #init: DeadlineWatchInit;
  readonly #stalledTime = new StalledTime();
  readonly #pauses: PauseDetector;
  #symptom: Symptom | undefined;
  readonly #linkFailures: LinkFailure[] = [];

  constructor(init: DeadlineWatchInit) {
    this.#init = init;
    this.#pauses = new PauseDetector(init.clock.monotonicMs());
  }

  /** Keeps a failure that may be the effect of another one, whose report is still to come. @param peers ranks at the other end of its links */
  suspect({ workerId }: WorkerHandle, error: TrainerError, peers: readonly number[]): void {
    const { clock, members } = this.#init;
    this.#symptom ??= { error, sinceMs: clock.monotonicMs() };
    const ids = peers.flatMap((rank) => members[rank]?.workerId ?? []);
    if (this.#linkFailures.length < members.length) this.#linkFailures.push({ workerId, peers: ids });
  }

  /**
   * Call it only when the mailbox is empty: after a pause of our own, queued messages look late but are not.
   * @returns why the generation cannot continue; undefined while nothing is overdue
   */
  poll(open: OpenStepView | undefined): OverdueGeneration | undefined {
    const { clock, config, saver, validator, members } = this.#init;
    const nowMs = clock.monotonicMs();
    if (this.#pauses.hasPaused(nowMs)) return undefined;
    const stalledMs = this.#stalledTime.poll(nowMs, open?.step ?? -1, members, open?.missing ?? []);
    const overdue = findOverdue(
      nowMs,
      { ...config.cluster, ...config.feed },
      {
        members,
        ...(this.#symptom === undefined ? {} : { symptom: this.#symptom }),
        ...(open === undefined ? {} : { step: { ...open, stalledMs }, hang: this.#findHung(open) }),
        ...(saver.writing === undefined ? {} : { checkpoint: saver.writing }),
        batches: validator.underWay.map(({ sinceMs, ...batch }) => {
          return { ...batch, stillSinceMs: Math.max(sinceMs, batch.worker.progressMs) };
        }),
      },
    );
    if (overdue?.isLinks !== true) return overdue;
    const waiting = (open?.missing ?? []).map((rank) => ({ workerId: members[rank]!.workerId, peers: [] }));
    return { ...overdue, links: this.#symptom === undefined ? waiting : this.#linkFailures };
  }

  #findHung({ missing }: OpenStepView): HangVerdict {
    const { config, stepTimes, members } = this.#init;
    const limits = planHangLimits(stepTimes, { ...config.cluster, ...config.feed });
    const isMissing = new Set(missing);
    const views = members.map(({ workerId, phase, progressMs, beatMs, stalledMs }, rank) => {
      const hasReported = !isMissing.has(rank);
      return { rank, workerId, phase, movedAtMs: progressMs, heardAtMs: beatMs, stalledMs, hasReported };
    });
    return findHung(limits, views);
  }
}
