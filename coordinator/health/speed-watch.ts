/** Observes the speeds of the ranks of a generation: logs slow ranks and links, and asks for other lanes when they would be faster. */
import type { RunConfig } from '../../shared/config/schema.ts';
import type { Logger } from '../../shared/logger.ts';
import type { Generation } from '../membership/generation.ts';
import type { ReportedStep } from '../step/open-steps.ts';
import { Rebalance, type WorkerSpeeds } from './lane-speeds.ts';
import { Stragglers, type StragglerNotice } from './stragglers.ts';

export interface SpeedWatchInit {
  readonly config: RunConfig;
  readonly generation: Pick<Generation, 'members' | 'runs'>;
  readonly speeds: WorkerSpeeds;
  readonly log: Logger;
}

export class SpeedWatch {
  readonly #init: SpeedWatchInit;
  readonly #stragglers = new Stragglers();
  readonly #rebalance: Rebalance | undefined;
  /** Sentences that hold now, by worker id or `links`. */
  readonly #slow = new Map<string, string>();
  #reason: string | undefined;

  constructor(init: SpeedWatchInit) {
    this.#init = init;
    const { config, generation } = init;
    if (config.cluster.rebalance) this.#rebalance = new Rebalance(config.training.numLanes, generation.runs);
  }

  /** Sentences about the ranks and links that are slow now. */
  get slow(): readonly string[] {
    return [...this.#slow.values()];
  }

  /** Why lanes are to be assigned anew; undefined while they are not. */
  get rebalanceReason(): string | undefined {
    return this.#reason;
  }

  /** A step of the generation was committed. */
  observe({ step, rankMs }: Pick<ReportedStep, 'step' | 'rankMs'>): void {
    const { generation, speeds } = this.#init;
    const { members, runs } = generation;
    if (rankMs.length < members.length) return; // committed without the reports of some ranks
    const times = members.map(({ workerId }, rank) => {
      const { first, end } = runs[rank]!;
      return { rank, workerId, numLanes: end - first, ms: rankMs[rank]! };
    });
    for (const notice of this.#stragglers.observe(step, times)) this.#log(notice);
    const measured = this.#stragglers.speeds();
    speeds.learn(
      members.map(({ workerId }) => workerId),
      measured,
    );
    this.#reason ??= this.#rebalance?.observe(measured);
  }

  #log(notice: StragglerNotice): void {
    const { log } = this.#init;
    const { change, step, sentence: reason } = notice;
    const about = notice.kind === 'rank' ? notice.workerId : 'links';
    if (change === 'ends') this.#slow.delete(about);
    else this.#slow.set(about, reason);
    const level = change === 'ends' ? 'info' : 'warn';
    if (notice.kind === 'links') {
      const { linksMs, stepMs } = notice;
      log[level]({ step, linksMs: Math.round(linksMs), stepMs: Math.round(stepMs), reason }, 'slow links');
      return;
    }
    const { rank, workerId, cause, factor, waitMs } = notice;
    const figures = { factor: Number(factor.toFixed(2)), waitMs: Math.round(waitMs) };
    log[level]({ step, rank, workerId, cause, ...figures, reason }, 'straggler');
  }
}
