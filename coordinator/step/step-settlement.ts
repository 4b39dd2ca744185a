/**
 * Decides which steps of a generation are committed, while it trains and after it has ended.
 *
 * While it trains, a step is committed when all ranks have reported it with one digest. After its end, a step is committed when a rank has
 * applied it and somebody has reported it; late reports of workers that dial again count.
 *
 * Where ranks differ, the gradient of more than half of them is committed, and no later step of that generation: a rank with another state
 * has put wrong gradients into those. Without such a majority the step is not committed, and no state of these ranks counts.
 */
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import type { StepReport } from '../../shared/protocol/messages.ts';
import type { UncommittedDeals } from '../deal/uncommitted-deals.ts';
import type { PastGeneration } from '../membership/generation.ts';
import type { Roster } from '../membership/roster.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';
import type { Committer } from './committer.ts';
import { isProven, OpenSteps, type ReportedStep } from './open-steps.ts';

export interface StepSettlementInit {
  readonly config: {
    readonly training: Pick<RunConfig['training'], 'numLanes' | 'proveEverySteps'>;
    readonly cluster: Pick<RunConfig['cluster'], 'plansAhead'>;
  };
  readonly taskNames: readonly string[];
  readonly deals: Pick<UncommittedDeals, 'lastStep' | 'dealUpTo' | 'all'>;
  readonly committer: Pick<Committer, 'step' | 'commit'>;
  readonly roster: Pick<Roster, 'ready' | 'setHeldStep' | 'distrust'>;
  readonly log: Logger;
  /** The last generation before this epoch, whose reports may still arrive. */
  readonly before: PastGeneration | undefined;
  /** The last step of that generation without a wrong gradient. */
  readonly goodUntil: number;
}

/** Ranks that should hold the same state and do not: their generation cannot continue. */
export interface Divergence {
  readonly error: TrainerError;
  /** Ids of the wrong ranks; empty where nobody can tell. */
  readonly outliers: readonly string[];
}

interface LateReport {
  readonly rank: number;
  readonly report: StepReport;
}

export class StepSettlement {
  readonly #init: StepSettlementInit;
  /** The generation that trains, or that trained last. */
  #current: { readonly past: PastGeneration; readonly steps: OpenSteps } | undefined;
  /** The last step of that generation without a wrong gradient. */
  #goodUntil = Infinity;
  /** By rank and step. Bound: the members of one generation times the steps dealt to it that are not committed. */
  readonly #late = new Map<string, LateReport>();
  /** The furthest step that a coordinator before this one can have dealt, if it dealt as many steps ahead as this one. */
  readonly #lastStepBefore: number;

  constructor(init: StepSettlementInit) {
    this.#init = init;
    this.#lastStepBefore = init.committer.step + init.config.cluster.plansAhead;
    if (init.before !== undefined) this.begin(init.before, init.goodUntil);
  }

  /**
   * Begins to count reports of this generation, and forgets those of the one before.
   * @param goodUntil the last step of the generation without a wrong gradient
   */
  begin(past: PastGeneration, goodUntil = Infinity): OpenSteps {
    const { taskNames, config } = this.#init;
    const { numLanes } = config.training;
    const provesState = (step: number): boolean => isProven(step, config.training);
    const steps = new OpenSteps({ taskNames, numLanes, worldSize: past.members.length, provesState });
    this.#current = { past, steps };
    this.#goodUntil = goodUntil;
    this.#late.clear();
    return steps;
  }

  /** Commits a step that its ranks have reported, unless no gradient has a majority. @returns how they differ, where they do */
  async commit(reported: ReportedStep): Promise<Divergence | undefined> {
    const { committer, log } = this.#init;
    const { past } = this.#current!;
    const { step, verdict, digests } = reported;
    if (verdict.kind === 'agree') {
      await committer.commit(reported, past);
      return undefined;
    }
    const hasMajority = verdict.kind === 'outliers';
    const wrong = digests.filter(({ rank }) => !hasMajority || verdict.ranks.includes(rank));
    const ids = wrong.map(({ rank }) => past.members[rank]!);
    await this.spoil(hasMajority ? step + 1 : step, ids); // journalled before the commit: nobody continues from these states
    if (hasMajority) await committer.commit(reported, past);
    const expected = hasMajority ? verdict.majority : null;
    for (const [i, { rank, digest }] of wrong.entries())
      log.error({ step, rank, workerId: ids[i], expected, found: digest }, 'rank differs');
    const outcome = hasMajority ? 'the others continue' : 'the step is not committed';
    const error = new TrainerError('GRADIENT_DIVERGED', `step ${step}: ${verdict.reason}; ${outcome}`);
    return { error, outliers: hasMajority ? ids : [] };
  }

  /** These workers have put wrong gradients into the generation's steps from this one on: none of those is committed. */
  async spoil(step: number, workerIds: readonly string[]): Promise<void> {
    this.#goodUntil = step - 1;
    await this.#init.roster.distrust(workerIds, this.#goodUntil);
  }

  /**
   * Keeps a report that arrives after its generation has ended: it may be the only one of a step. Drops a worker that was no member, or
   * that reports a step nobody dealt.
   */
  receiveLate(worker: Pick<WorkerHandle, 'workerId' | 'drop'>, report: StepReport): void {
    const { committer, log, deals, before } = this.#init;
    const { workerId } = worker;
    const { step, epoch, generation } = report;
    const past = this.#current?.past;
    if (past?.epoch !== epoch || past.generation !== generation || step <= committer.step) return;
    const rank = past.members.indexOf(workerId);
    const fromBefore = past === before;
    const lastStep = fromBefore ? Math.max(deals.lastStep, this.#lastStepBefore) : deals.lastStep;
    if (rank < 0 || (step > lastStep && !fromBefore)) {
      const expected = rank < 0 ? 'a report of a member' : `a step up to ${lastStep}, the last one dealt`;
      const reason = `${workerId} reports step ${step} of generation ${generation}: expected ${expected}`;
      log.warn({ workerId, step, code: 'MESSAGE_INVALID', reason }, 'late report refused');
      worker.drop('MESSAGE_INVALID', reason);
    } else if (step > lastStep) {
      // The coordinator before may have dealt further by another `cluster.plansAhead`: the worker is not at fault.
      const reason = `expected a step up to ${lastStep}, as cluster.plansAhead is ${this.#init.config.cluster.plansAhead}`;
      log.warn({ rank, step, reason }, 'late report ignored');
    } else {
      const key = `${rank}/${step}`;
      if (!this.#late.has(key)) this.#late.set(key, { rank, report }); // a worker that dials again repeats its reports
      log.debug({ workerId, step }, 'late report');
    }
  }

  /** Commits up to the furthest state that a worker holds and that somebody has reported. States beyond that do not count. */
  async settleFurthest(): Promise<void> {
    const { roster, committer } = this.#init;
    const steps = [...new Set(roster.ready.flatMap(({ heldStep }) => (heldStep === null ? [] : [heldStep])))];
    for (const step of steps.sort((a, b) => b - a)) {
      if (step <= committer.step || (await this.#settle(step))) break;
      for (const { worker, heldStep } of roster.ready) if (heldStep === step) roster.setHeldStep(worker, null);
    }
  }

  /**
   * Commits what survivors have applied but not all ranks could report, up to a step. Its gradient is the canonical one, since no rank
   * applies any other. Losses are those of the reported lanes.
   * @returns whether the step is committed; false where nobody has reported it or one before it
   */
  async #settle(step: number): Promise<boolean> {
    const { committer } = this.#init;
    await this.#countLateReports();
    while (committer.step < step) {
      const next = committer.step + 1;
      const reported = next > this.#goodUntil ? undefined : this.#current?.steps.closePartial(next);
      if (reported === undefined) return false;
      await this.commit(reported);
    }
    return true;
  }

  async #countLateReports(): Promise<void> {
    const { deals, committer, log } = this.#init;
    const late = [...this.#late.values()].sort((a, b) => a.report.step - b.report.step);
    this.#late.clear();
    for (const { rank, report } of late) {
      const { steps } = this.#current!;
      const { step } = report;
      if (step <= committer.step || step > this.#goodUntil) continue;
      await deals.dealUpTo(step);
      for (const deal of deals.all()) steps.open(deal);
      if (steps.hasReported(rank, step)) continue;
      try {
        const reported = steps.receive(rank, report);
        if (reported !== undefined) await this.commit(reported);
      } catch (error) {
        if (!(error instanceof TrainerError) || error.code !== 'MESSAGE_INVALID') throw error;
        log.warn({ rank, step, reason: error.message }, 'late report ignored');
      }
    }
  }
}
