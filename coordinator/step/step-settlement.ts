/**
 * Which of a generation's steps are committed, while it trains and when it has ended: those that all ranks have reported alike; and of
 * those under way at its end what one of its ranks has applied, from the reports that are there, also where they come late, from a worker
 * that has dialled again.
 *
 * Where ranks differ, what more than half of them hold is committed, and no step of that generation after it: a rank with another state has
 * put wrong gradients into those. Without such a majority nothing is, and nobody's state is trusted.
 */
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import type { Committer } from './committer.ts';
import type { DealtSteps } from '../deal/dealt-steps.ts';
import type { PastGeneration } from '../membership/generation.ts';
import { isProven, OpenSteps, type ReportedStep } from './open-steps.ts';
import type { StepReport } from '../../shared/protocol/messages.ts';
import type { Roster } from '../membership/roster.ts';

/** Reports of steps that are further ahead than this belong to no generation of this run. */
const MOST_LATE_STEPS = 1_024;

export interface SettlingInit {
  readonly config: { readonly training: Pick<RunConfig['training'], 'numLanes' | 'proveEverySteps'> };
  readonly taskNames: readonly string[];
  readonly deals: Pick<DealtSteps, 'get' | 'all'>;
  readonly committer: Pick<Committer, 'step' | 'commit'>;
  readonly roster: Pick<Roster, 'ready' | 'hold' | 'distrust'>;
  readonly log: Logger;
  /** The last generation before this epoch, whose reports may still come. */
  readonly before: PastGeneration | undefined;
  /** Of that generation: the steps after this one are spoilt. */
  readonly goodUntil: number;
}

/** Ranks that should hold the same and do not: their generation cannot go on. */
export interface Divergence {
  readonly error: TrainerError;
  /** Ids of those that are wrong; none where nobody can tell. */
  readonly outliers: readonly string[];
}

export class Settling {
  readonly #init: SettlingInit;
  #of: { readonly past: PastGeneration; readonly steps: OpenSteps } | undefined;
  /** Of the generation: the steps after this one are spoilt. */
  #goodUntil = Infinity;
  readonly #late: { readonly rank: number; readonly report: StepReport }[] = [];

  constructor(init: SettlingInit) {
    this.#init = init;
    if (init.before !== undefined) this.begin(init.before, init.goodUntil);
  }

  /** The steps of a generation, in which reports are counted while it trains and when it is over. @param goodUntil those after it are spoilt */
  begin(past: PastGeneration, goodUntil = Infinity): OpenSteps {
    const { taskNames, config } = this.#init;
    const { numLanes } = config.training;
    const provesState = (step: number): boolean => isProven(step, config.training);
    const steps = new OpenSteps({ taskNames, numLanes, worldSize: past.members.length, provesState });
    this.#of = { past, steps };
    this.#goodUntil = goodUntil;
    this.#late.length = 0; // they are of another generation, whose ranks and states these are not
    return steps;
  }

  /** Commits a step that its ranks have reported, as far as it can be. @returns how they differ, where they do */
  async commit(reported: ReportedStep): Promise<Divergence | undefined> {
    const { committer, log } = this.#init;
    const { past } = this.#of!;
    const { step, verdict, digests } = reported;
    const isRight = verdict.kind !== 'no-majority';
    if (verdict.kind === 'agree') {
      await committer.commit(reported, past);
      return undefined;
    }
    const wrong = digests.filter(({ rank }) => !isRight || verdict.ranks.includes(rank));
    const ids = wrong.map(({ rank }) => past.members[rank]!);
    await this.spoil(isRight ? step + 1 : step, ids); // before the commit, so that nobody ever goes on from them
    if (isRight) await committer.commit(reported, past);
    const expected = isRight ? verdict.majority : null;
    for (const [i, { rank, digest }] of wrong.entries())
      log.error({ step, rank, workerId: ids[i], expected, found: digest }, 'rank differs');
    const outliers = isRight ? ids : [];
    const end = isRight ? 'the others go on' : 'the step is not committed';
    return { error: new TrainerError('GRADIENT_DIVERGED', `step ${step}: ${verdict.reason}; ${end}`), outliers };
  }

  /** These have spoilt the generation's steps from this one on: none of those is committed, and what they hold does not count. */
  async spoil(step: number, workerIds: readonly string[]): Promise<void> {
    this.#goodUntil = step - 1;
    await this.#init.roster.distrust(workerIds, this.#goodUntil);
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
  async settleFurthest(): Promise<void> {
    const { roster } = this.#init;
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
      const next = committer.step + 1;
      const reported = next > this.#goodUntil ? undefined : this.#of?.steps.settle(next);
      if (reported === undefined) return false;
      await this.commit(reported);
    }
    return true;
  }

  async #takeLateReports(): Promise<void> {
    const { deals, committer, log } = this.#init;
    for (const { rank, report } of this.#late.splice(0).sort((a, b) => a.report.step - b.report.step)) {
      const { steps } = this.#of!;
      if (rank < 0 || report.step <= committer.step || report.step > this.#goodUntil) continue;
      await deals.get(report.step);
      for (const deal of deals.all()) steps.deal(deal);
      if (steps.hasReported(rank, report.step)) continue;
      try {
        const reported = steps.report(rank, report);
        if (reported !== undefined) await this.commit(reported);
      } catch (error) {
        if (!(error instanceof TrainerError) || error.code !== 'MESSAGE_INVALID') throw error;
        log.warn({ rank, step: report.step, reason: error.message }, 'late report not taken');
      }
    }
  }
}
