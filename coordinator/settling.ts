/**
 * What becomes of the steps that were under way when a generation ended: what one of its ranks has applied is committed from the reports
 * that are there, also where they come late, from a worker that has dialled again.
 */
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { Committer } from './committer.ts';
import type { DealtSteps } from './dealt-steps.ts';
import type { PastGeneration } from './form-generation.ts';
import { OpenSteps, type StepReport } from './open-steps.ts';
import type { Roster } from './roster.ts';

/** Reports of steps that are further ahead than this belong to no generation of this run. */
const MOST_LATE_STEPS = 1_024;

export interface SettlingInit {
  readonly config: RunConfig;
  readonly taskNames: readonly string[];
  readonly deals: DealtSteps;
  readonly committer: Committer;
  readonly log: Logger;
  /** The last generation before this epoch, whose reports may still come. */
  readonly before: PastGeneration | undefined;
}

export class Settling {
  readonly #init: SettlingInit;
  #of: { readonly past: PastGeneration; readonly steps: OpenSteps } | undefined;
  readonly #late: { readonly rank: number; readonly report: StepReport }[] = [];

  constructor(init: SettlingInit) {
    this.#init = init;
    if (init.before !== undefined) this.begin(init.before);
  }

  /** The steps of a generation, in which reports are counted while it trains and when it is over. */
  begin(past: PastGeneration): OpenSteps {
    const { taskNames, config } = this.#init;
    const steps = new OpenSteps({ taskNames, numLanes: config.training.numLanes, worldSize: past.members.length });
    this.#of = { past, steps };
    return steps;
  }

  /** A report that came after its generation had ended: it may be all that is left of a step. */
  takeLate(workerId: string, report: StepReport): void {
    const { committer, log } = this.#init;
    const { step, epoch, generation } = report;
    const past = this.#of?.past;
    if (past?.epoch !== epoch || past.generation !== generation || step <= committer.step) return;
    if (step > committer.step + MOST_LATE_STEPS) return;
    this.#late.push({ rank: past.members.indexOf(workerId), report });
    log.debug({ workerId, step }, 'late report');
  }

  /** Commits up to the furthest state that somebody holds and has reported; a state beyond that counts for nothing. */
  async settleFurthest(roster: Roster): Promise<void> {
    const steps = [...new Set(roster.ready.flatMap(({ heldStep }) => (heldStep === null ? [] : [heldStep])))];
    for (const step of steps.sort((a, b) => b - a)) {
      if (step <= this.#init.committer.step || (await this.#settle(step))) break;
      for (const { worker, heldStep } of roster.ready) if (heldStep === step) roster.hold(worker, null);
    }
  }

  /**
   * Commits what survivors have applied but not all ranks could report, up to a step; its gradient is the canonical one, for no rank
   * applies any other. Losses are those of the lanes that were reported.
   * @returns whether the step is committed; not, where nobody has reported one on the way
   */
  async #settle(step: number): Promise<boolean> {
    const { committer } = this.#init;
    await this.#takeLateReports();
    while (committer.step < step) {
      const summary = this.#of?.steps.settle(committer.step + 1);
      if (summary === undefined) return false;
      await committer.commit(summary, this.#of!.past);
    }
    return true;
  }

  async #takeLateReports(): Promise<void> {
    const { deals, committer, log } = this.#init;
    for (const { rank, report } of this.#late.splice(0).sort((a, b) => a.report.step - b.report.step)) {
      const { past, steps } = this.#of!;
      if (rank < 0 || report.step <= committer.step) continue;
      await deals.get(report.step);
      for (const deal of deals.all()) steps.deal(deal);
      if (steps.hasReported(rank, report.step)) continue;
      try {
        const summary = steps.report(rank, report);
        if (summary !== undefined) await committer.commit(summary, past);
      } catch (error) {
        if (!(error instanceof TrainerError) || error.code !== 'MESSAGE_INVALID') throw error;
        log.warn({ rank, step: report.step, reason: error.message }, 'late report not taken');
      }
    }
  }
}
