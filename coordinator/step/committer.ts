/**
 * Commits steps: writes a step to the ledger, then to the journal, then logs it and calls the observers. Nothing else advances the step of a run.
 */
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { clipFactor } from '../../shared/optimizer.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import { digestOf, type StepDigest } from '../journal/committed-digests.ts';
import type { UncommittedDeals } from '../deal/uncommitted-deals.ts';
import type { PastGeneration } from '../membership/generation.ts';
import type { Journal } from '../journal/journal.ts';
import type { RecordStep } from './record-step.ts';
import type { StepSummary } from './open-steps.ts';
import { formatDigest } from './divergence.ts';
import { Progress, type RecentTimes } from './step-times.ts';
import { journalCursor, type RunCursor } from '../deal/rate-changes.ts';

export interface CommitterInit {
  readonly config: RunConfig;
  readonly epoch: number;
  /** The step and the place of the plan where the epoch begins. */
  readonly step: number;
  readonly cursor: RunCursor;
  readonly deals: UncommittedDeals;
  readonly journal: Pick<Journal, 'append' | 'state'>;
  /** Writes a step to the ledger, on disk. */
  readonly record: RecordStep;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called in their order, after the journal has the step. */
  readonly observers: readonly CommitObserver[];
}

export interface CommitObserver {
  /** @param at speed of the step, and the plan's place after it */
  onCommit(summary: StepSummary, at: { readonly tokensPerSecond: number; readonly cursor: RunCursor }): void;
  /** The step was committed without an update. */
  onSkip?(step: number): void;
}

export class Committer {
  readonly #init: CommitterInit;
  readonly #progress: Progress;
  #step: number;
  #stateStep: number;
  #cursor: RunCursor;
  /** Commits that each worker took part in. */
  readonly #commitsOf = new Map<string, number>();

  constructor(init: CommitterInit) {
    this.#init = init;
    this.#step = init.step;
    const { state } = init.journal;
    this.#stateStep = state.step === init.step ? state.stateStep : init.step;
    this.#cursor = init.cursor;
    this.#progress = new Progress(init.clock.monotonicMs());
  }

  /** The last committed step, or the one at which the epoch began. */
  get step(): number {
    return this.#step;
  }

  /** The lowest step with the same state as `step`: the steps between were skipped. */
  get stateStep(): number {
    return this.#stateStep;
  }

  /** Whether `heldStep` has the committed state. True across skipped steps, which change nothing. */
  isState(heldStep: number | null): boolean {
    return heldStep !== null && heldStep >= this.#stateStep && heldStep <= this.#step;
  }

  /** Place of the plan after `step`. */
  get cursor(): RunCursor {
    return this.#cursor;
  }

  /** From commit to commit, across generations. */
  get stepTimes(): RecentTimes {
    return this.#progress.stepTimes;
  }

  /** A validation is over: its time belongs to no step. */
  resumeClock(): void {
    this.#progress.resume(this.#init.clock.monotonicMs());
  }

  /** Committed steps that a worker took part in. */
  commitsOf(workerId: string): number {
    return this.#commitsOf.get(workerId) ?? 0;
  }

  /**
   * Commits the next step.
   * @throws GRADIENT_DIVERGED where the step was committed before with another gradient; DISK_FULL, PATH_UNUSABLE
   */
  async commit(summary: StepSummary, { generation, members }: PastGeneration): Promise<void> {
    const { deals, record, journal, clock, log, config, epoch, observers } = this.#init;
    const { step, loss, gradDigest } = summary;
    this.#compare(step, gradDigest);
    const deal = deals.find(step)!;
    const { cursor } = deal;
    await record(summary, deal, generation); // before the commit: no committed step lacks its record in the ledger
    const place = { epoch, generation, step, cursor: journalCursor(cursor) };
    await journal.append({ kind: 'step-committed', ...place, gradDigest, loss });
    this.#advance(step, cursor);
    this.#stateStep = step;
    for (const workerId of members) this.#commitsOf.set(workerId, this.commitsOf(workerId) + 1);
    const wallMs = this.#progress.commit(clock.monotonicMs());
    const tokensPerSecond = (1000 * (summary.inputTokens + summary.targetTokens)) / wallMs;
    const { optimizer, training } = config;
    const { steps } = training;
    const fields = stepLogFields(summary, {
      clippedGradNorm: optimizer.maxGradNorm && summary.gradNorm * clipFactor(optimizer, summary.gradNorm),
      wallMs,
      tokensPerSecond,
      worldSize: members.length,
      generation,
      steps,
      etaSeconds: this.#progress.etaSeconds(steps - step),
    });
    log.info(fields, 'step committed');
    for (const observer of observers) observer.onCommit(summary, { tokensPerSecond, cursor });
  }

  /** Commits the next step without an update; its examples are used up. @throws as `commit` */
  async skip(reason: string, { generation }: PastGeneration): Promise<void> {
    const { deals, record, journal, log, epoch, observers } = this.#init;
    const step = this.#step + 1;
    this.#compare(step, 'skipped');
    const deal = deals.find(step)!;
    const { cursor } = deal;
    await record(undefined, deal, generation);
    await journal.append({ kind: 'step-skipped', epoch, generation, step, cursor: journalCursor(cursor), reason });
    this.#advance(step, cursor);
    log.error({ step, generation, reason }, 'step skipped');
    for (const observer of observers) observer.onSkip?.(step);
  }

  #advance(step: number, cursor: RunCursor): void {
    this.#init.deals.remove(step);
    this.#step = step;
    this.#cursor = cursor;
  }

  /** @throws GRADIENT_DIVERGED where the step was committed before with another digest */
  #compare(step: number, gradDigest: StepDigest): void {
    const { digests, furthestStep } = this.#init.journal.state;
    const before = step > furthestStep ? undefined : digestOf(digests, step);
    if (before === undefined || before === gradDigest) return;
    const [expected, found] = [before, gradDigest].map((digest) =>
      digest === 'skipped' ? digest : formatDigest(digest),
    );
    throw new TrainerError(
      'GRADIENT_DIVERGED',
      `step ${step} is trained again: expected the gradient in the journal, ${expected}, found ${found}; ` +
        'either a committed step was wrong or the engine does not give the same bits twice',
    );
  }
}

interface CommitFacts {
  /** L2 norm of the gradient that was applied; undefined without clipping. */
  readonly clippedGradNorm: number | undefined;
  /** Since the commit before, ms. */
  readonly wallMs: number;
  readonly tokensPerSecond: number;
  readonly worldSize: number;
  readonly generation: number;
  /** Steps of the whole run. */
  readonly steps: number;
  readonly etaSeconds: number;
}

/** Fields of the log record `step committed`, with stable names and units (docs/logs.md). */
function stepLogFields(summary: StepSummary, facts: CommitFacts): Record<string, unknown> {
  const ms = { ...summary.ms, wall: facts.wallMs };
  return {
    step: summary.step,
    steps: facts.steps,
    loss: summary.loss,
    taskLoss: summary.taskLoss,
    taskTokens: summary.taskTokens,
    zLoss: summary.zLoss,
    gradNorm: summary.gradNorm,
    ...(facts.clippedGradNorm === undefined ? {} : { clippedGradNorm: facts.clippedGradNorm }),
    lr: summary.learningRate,
    inputTokens: summary.inputTokens,
    targetTokens: summary.targetTokens,
    tokensPerSecond: Math.round(facts.tokensPerSecond),
    worldSize: facts.worldSize,
    generation: facts.generation,
    gradDigest: formatDigest(summary.gradDigest),
    ms: Object.fromEntries(Object.entries(ms).map(([phase, value]) => [phase, Math.round(value * 10) / 10])),
    slowestRank: summary.slowestRank,
    etaSeconds: Math.round(facts.etaSeconds),
  };
}
