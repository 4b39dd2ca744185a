/**
 * One generation at work: deals steps a few ahead, commits each when all ranks have reported it, saves on schedule, and ends
 * when the last step is committed and saved, when it is asked to stop, or with the first failure. It decides nothing about
 * membership: whoever runs it does.
 */
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { fromErrorRecord, TrainerError } from '../shared/errors.ts';
import type { LaneRun } from '../shared/lane-tree.ts';
import type { Logger } from '../shared/logger.ts';
import type { Mailbox } from '../shared/mailbox.ts';
import { decideCheckpoint, type ScheduleOptions } from './checkpoint/schedule.ts';
import type { ControlEvent, WorkerEventMessage, WorkerHandle } from './control-server.ts';
import type { Journal } from './journal.ts';
import type { RecordStep } from './ledger/record-step.ts';
import { findOverdue, type Symptom } from './deadlines.ts';
import { Progress } from './progress.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { SavePoint, Saver } from './saver.ts';
import type { StepDeal, StepDealer } from './step-dealer.ts';
import { journalCursor, type RunCursor } from './steering-changes.ts';
import { stepLogFields } from './step-log.ts';
import { StalledTime } from './worker-stall.ts';
import { OpenSteps, type StepReport, type StepSummary } from './open-steps.ts';

/** How often deadlines are looked at when nothing happens, ms. */
const TICK_MS = 200;

export interface Generation {
  readonly epoch: number;
  readonly generation: number;
  /** In rank order. */
  readonly members: readonly WorkerHandle[];
  /** Lanes of each rank. */
  readonly runs: readonly LaneRun[];
}

export interface TrainingInit {
  readonly config: RunConfig;
  readonly generation: Generation;
  readonly events: Mailbox<ControlEvent>;
  readonly dealer: StepDealer;
  readonly journal: Journal;
  /** Puts a step into the ledger, on disk. */
  readonly record: RecordStep;
  readonly saver: Saver;
  readonly taskNames: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  /** Step the run starts from: a checkpoint's, or 0 where it starts from the seed and there is nothing to save. */
  readonly savedStep: number;
  readonly onCommit: (summary: StepSummary, tokensPerSecond: number) => void;
  readonly onPublish: (checkpoint: PublishedCheckpoint) => Promise<void>;
  /** Why the run is to stop, once it is. */
  readonly stopReason: () => string | undefined;
}

export class Training {
  readonly #init: TrainingInit;
  readonly #openSteps: OpenSteps;
  readonly #deals = new Map<number, StepDeal>();
  readonly #progress: Progress;
  readonly #schedule: ScheduleOptions;
  #committedStep: number;
  #committedCursor: RunCursor;
  #committedMs: number;
  #savedStep: number;
  #savedAtMs: number;
  #symptom: Symptom | undefined;
  readonly #stalledTime = new StalledTime();

  constructor(init: TrainingInit) {
    this.#init = init;
    const { config, taskNames, generation, clock, dealer, savedStep } = init;
    const { everySteps, everyMinutes } = config.checkpoint;
    this.#openSteps = new OpenSteps({
      taskNames,
      numLanes: config.training.numLanes,
      worldSize: generation.members.length,
    });
    const nowMs = clock.monotonicMs();
    this.#progress = new Progress(nowMs);
    this.#schedule = {
      ...(everySteps === undefined ? {} : { everySteps }),
      ...(everyMinutes === undefined ? {} : { everyMs: everyMinutes * 60_000 }),
      atEnd: true,
    };
    this.#committedStep = dealer.step;
    this.#committedCursor = dealer.cursor;
    this.#committedMs = nowMs;
    this.#savedStep = savedStep;
    this.#savedAtMs = nowMs;
  }

  get committedStep(): number {
    return this.#committedStep;
  }

  get savedStep(): number {
    return this.#savedStep;
  }

  /**
   * Trains to the end, or to where `stopReason` ends it.
   * @throws the first failure: WORKER_LOST, GRADIENT_DIVERGED, STATE_DIVERGED, what a worker failed with, DISK_FULL, ABORTED
   */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#dealAhead();
      if (this.#isDone()) return;
      const event = await this.#init.events.next(TICK_MS, signal);
      if (event !== undefined) await this.#handle(event);
      this.#checkDeadlines();
    }
  }

  /**
   * Commits a step that a survivor has applied but not all ranks could report; its gradient is the canonical one, for no rank
   * applies any other. Losses are those of the lanes that were reported.
   */
  async settle(step: number): Promise<void> {
    const summary = this.#openSteps.settle(step);
    if (summary !== undefined) await this.#commit(summary);
  }

  /** A report that came after the failure: it may be all that is left of a step. */
  async takeLateReport(worker: WorkerHandle, message: StepReport): Promise<void> {
    try {
      const summary = this.#openSteps.report(this.#init.generation.members.indexOf(worker), message);
      if (summary !== undefined) await this.#commit(summary);
    } catch (error) {
      this.#init.log.warn({ workerId: worker.workerId, reason: (error as Error).message }, 'late report not taken');
    }
  }

  /** The state at the last committed step, to be saved. */
  get savePoint(): SavePoint {
    const { generation, members } = this.#init.generation;
    return { step: this.#committedStep, cursor: this.#committedCursor, generation, worldSize: members.length };
  }

  #isEnd(): boolean {
    const { dealer, config, stopReason } = this.#init;
    return dealer.step >= config.training.steps || stopReason() !== undefined;
  }

  #isDone(): boolean {
    return (
      this.#isEnd() &&
      this.#openSteps.numOpen === 0 &&
      this.#init.saver.writingStep === undefined &&
      this.#savedStep === this.#init.dealer.step
    );
  }

  async #dealAhead(): Promise<void> {
    const { dealer, config } = this.#init;
    await this.#saveIfDue();
    while (!this.#isEnd() && this.#openSteps.numOpen < config.cluster.plansAhead) {
      const deal = await dealer.deal();
      if (this.#openSteps.numOpen === 0) this.#committedMs = this.#init.clock.monotonicMs();
      this.#openSteps.deal(deal);
      this.#deals.set(deal.step, deal);
      this.#send(deal);
      await this.#saveIfDue();
    }
  }

  #send({ step, learningRate, targetTokens, lanes }: StepDeal): void {
    const { epoch, generation, members, runs } = this.#init.generation;
    for (const [rank, member] of members.entries()) {
      const { first, end } = runs[rank]!;
      const own = lanes.slice(first, end).map((rows, i) => ({ lane: first + i, rows }));
      member.send({ kind: 'deal', epoch, generation, step, learningRate, targetTokens, lanes: own });
    }
  }

  async #saveIfDue(): Promise<void> {
    const { dealer, saver, clock, generation, stopReason } = this.#init;
    const { writingStep } = saver;
    const state = {
      step: dealer.step,
      isEnd: this.#isEnd(),
      savedStep: this.#savedStep,
      savedAtMs: this.#savedAtMs,
      ...(writingStep === undefined ? {} : { writingStep }),
    };
    const { save, reason } = decideCheckpoint(clock.monotonicMs(), state, this.#schedule);
    if (!save) return;
    const { members } = generation;
    const point = {
      step: dealer.step,
      cursor: dealer.cursor,
      generation: generation.generation,
      worldSize: members.length,
    };
    await saver.start(point, members, stopReason() ?? reason);
  }

  async #handle(event: ControlEvent): Promise<void> {
    const { members, epoch, generation } = this.#init.generation;
    const { worker } = event;
    const rank = members.indexOf(worker);
    if (event.kind === 'joined') {
      worker.refuse();
      return;
    }
    if (rank < 0) return;
    if (event.kind === 'lost')
      throw new TrainerError(
        'WORKER_LOST',
        `rank ${rank}, ${worker.toString()}, was lost in step ${this.#committedStep + 1}: ${event.error.message}`,
      );
    const { message } = event;
    if (message.kind === 'failed') {
      this.#takeFailure(describeFailure(rank, worker, message, this.#committedStep));
      return;
    }
    if (message.epoch !== epoch || ('generation' in message && message.generation !== generation))
      throw new TrainerError(
        'MESSAGE_INVALID',
        `${worker.workerId} sent ${message.kind} of another epoch or generation`,
      );
    if (message.kind === 'report') {
      const summary = this.#openSteps.report(rank, message);
      if (summary !== undefined) await this.#commit(summary);
    } else if (message.kind === 'saved') {
      const published = await this.#init.saver.saved(worker, message);
      if (published !== undefined) await this.#published(published);
    } else throw new TrainerError('MESSAGE_INVALID', `${worker.workerId} sent ${message.kind} while training`);
  }

  /** Members whose peer has died fail too, and are often heard first: the run ends with the cause, if there is one. */
  #takeFailure(error: TrainerError): void {
    const isSymptom = error.reaction === 'transport' || error.reaction === 'protocol';
    if (!isSymptom) throw error;
    this.#symptom ??= { error, sinceMs: this.#init.clock.monotonicMs() };
  }

  async #commit(summary: StepSummary): Promise<void> {
    const { journal, clock, log, config, generation } = this.#init;
    const { step, loss, gradDigest } = summary;
    const deal = this.#deals.get(step)!;
    const { cursor } = deal;
    const ids = { epoch: generation.epoch, generation: generation.generation };
    await this.#init.record(summary, deal, ids.generation); // before the commit, so that no committed step is without it
    await journal.append({ kind: 'step-committed', ...ids, step, cursor: journalCursor(cursor), gradDigest, loss });
    this.#deals.delete(step);
    this.#committedStep = step;
    this.#committedCursor = cursor;
    this.#committedMs = clock.monotonicMs();
    const wallMs = this.#progress.commit(this.#committedMs);
    const tokensPerSecond = (1000 * (summary.inputTokens + summary.targetTokens)) / wallMs;
    const fields = stepLogFields(summary, {
      wallMs,
      tokensPerSecond,
      worldSize: generation.members.length,
      generation: ids.generation,
      steps: config.training.steps,
      etaSeconds: this.#progress.etaSeconds(config.training.steps - step),
    });
    log.info(fields, 'step committed');
    this.#init.onCommit(summary, tokensPerSecond);
  }

  async #published(checkpoint: PublishedCheckpoint): Promise<void> {
    this.#savedStep = checkpoint.step;
    this.#savedAtMs = this.#init.clock.monotonicMs();
    await this.#init.onPublish(checkpoint);
  }

  #checkDeadlines(): void {
    const { clock, config, generation, saver } = this.#init;
    const step = this.#committedStep + 1;
    const isOpen = this.#openSteps.numOpen > 0;
    const nowMs = clock.monotonicMs();
    const missing = isOpen ? this.#openSteps.missingRanks(step) : [];
    const stalledMs = this.#stalledTime.look(nowMs, step, generation.members, missing);
    const options = { ...config.cluster, ...config.feed };
    const overdue = findOverdue(nowMs, options, {
      members: generation.members,
      ...(this.#symptom === undefined ? {} : { symptom: this.#symptom }),
      ...(isOpen ? { step: { step, sinceMs: this.#committedMs, missing, stalledMs } } : {}),
      ...(saver.writing === undefined ? {} : { checkpoint: saver.writing }),
    });
    if (overdue !== undefined) throw overdue;
  }
}

function describeFailure(
  rank: number,
  worker: WorkerHandle,
  message: Extract<WorkerEventMessage, { kind: 'failed' }>,
  committed: number,
): TrainerError {
  const cause = fromErrorRecord(message.error);
  return new TrainerError(cause.code, `rank ${rank}, ${worker.toString()}, after step ${committed}: ${cause.message}`, {
    cause,
  });
}
