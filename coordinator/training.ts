/**
 * The steps of an epoch: deals them a few ahead, commits each when all ranks have reported it, saves on schedule. Generations come and go;
 * what was dealt and not committed is dealt again to the next one, the same rows. It decides nothing about membership: it says how a
 * generation has ended, and whoever runs it does.
 */
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { fromErrorRecord, TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { decideCheckpoint, type ScheduleOptions } from './checkpoint/schedule.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { ControlEvent, ControlServer, WorkerEventMessage, WorkerHandle } from './control-server.ts';
import { findOverdue, type Symptom } from './deadlines.ts';
import type { Generation } from './form-generation.ts';
import type { Journal } from './journal.ts';
import type { RecordStep } from './ledger/record-step.ts';
import { OpenSteps, type StepReport, type StepSummary } from './open-steps.ts';
import { Progress } from './progress.ts';
import type { Roster } from './roster.ts';
import type { SavedMessage, SavePoint, Saver } from './saver.ts';
import type { StepDeal, StepDealer } from './step-dealer.ts';
import { journalCursor, type RunCursor } from './steering-changes.ts';
import { stepLogFields } from './step-log.ts';
import { StalledTime } from './worker-stall.ts';

/** How often deadlines are looked at when nothing happens, ms. */
const TICK_MS = 200;
/** A look that comes so much too late says that this process itself stood still: then nobody is late, ms. */
const OWN_PAUSE_MS = 1_000;
/** Reports of steps that are further ahead than this belong to no generation of this run. */
const MOST_LATE_STEPS = 1_024;

/** Who was in a generation: what its reports are counted by. */
export interface PastGeneration {
  readonly epoch: number;
  readonly generation: number;
  /** Worker ids in rank order. */
  readonly members: readonly string[];
}

export type GenerationEnding =
  /** The last step is committed and saved. */
  | { readonly kind: 'done' }
  /** No step is open, and somebody waits to join. */
  | { readonly kind: 'boundary'; readonly reason: string }
  /** It cannot go on. `culprit`: whose failure it is, where that is known. */
  | { readonly kind: 'broken'; readonly error: TrainerError; readonly culprit?: WorkerHandle };

export interface TrainingInit {
  readonly config: RunConfig;
  readonly epoch: number;
  readonly server: Pick<ControlServer, 'events'>;
  readonly roster: Roster;
  readonly dealer: StepDealer;
  readonly journal: Pick<Journal, 'append'>;
  /** Puts a step into the ledger, on disk. */
  readonly record: RecordStep;
  readonly saver: Saver;
  readonly taskNames: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  /** Step of the newest checkpoint; 0 where the run starts from the seed and there is nothing to save. */
  readonly savedStep: number;
  /** The last generation before this epoch, whose reports may still come. */
  readonly before: PastGeneration | undefined;
  readonly onCommit: (summary: StepSummary, tokensPerSecond: number) => void;
  readonly onPublish: (checkpoint: PublishedCheckpoint) => Promise<void>;
  /** Why the run is to stop, once it is. */
  readonly stopReason: () => string | undefined;
}

export class Training {
  readonly #init: TrainingInit;
  /** Dealt and not committed, by step; of these a generation may not have been sent all yet. */
  readonly #pending = new Map<number, StepDeal>();
  readonly #progress: Progress;
  readonly #schedule: ScheduleOptions;
  readonly #stalledTime = new StalledTime();
  #past: PastGeneration | undefined;
  #generation: Generation | undefined;
  #openSteps: OpenSteps | undefined;
  /** The last step that the generation was sent. */
  #sentStep: number;
  #committedStep: number;
  #committedCursor: RunCursor;
  #committedMs: number;
  #lookedMs: number;
  #savedStep: number;
  #savedAtMs: number;
  #symptom: Symptom | undefined;
  /** Of a generation that has ended. */
  readonly #lateReports: { readonly rank: number; readonly report: StepReport }[] = [];
  /** What writers of the checkpoint under way have said between two generations. */
  readonly #lateSaved = new Map<WorkerHandle, SavedMessage>();
  /** Commits that each worker took part in. */
  readonly #commitsOf = new Map<string, number>();

  constructor(init: TrainingInit) {
    this.#init = init;
    const { config, clock, dealer, savedStep, before } = init;
    const { everySteps, everyMinutes } = config.checkpoint;
    const nowMs = clock.monotonicMs();
    this.#progress = new Progress(nowMs);
    this.#schedule = {
      ...(everySteps === undefined ? {} : { everySteps }),
      ...(everyMinutes === undefined ? {} : { everyMs: everyMinutes * 60_000 }),
      atEnd: true,
    };
    this.#past = before;
    if (before !== undefined) this.#openSteps = this.#makeOpenSteps(before.members.length);
    this.#sentStep = dealer.step;
    this.#committedStep = dealer.step;
    this.#committedCursor = dealer.cursor;
    this.#committedMs = nowMs;
    this.#lookedMs = nowMs;
    this.#savedStep = savedStep;
    this.#savedAtMs = nowMs;
  }

  get committedStep(): number {
    return this.#committedStep;
  }

  get savedStep(): number {
    return this.#savedStep;
  }

  /** Committed steps that a worker took part in. */
  commitsOf(workerId: string): number {
    return this.#commitsOf.get(workerId) ?? 0;
  }

  /** Where the plan goes on after the last committed step. */
  get committedCursor(): RunCursor {
    return this.#committedCursor;
  }

  /** The state at the last committed step, to be saved. */
  get savePoint(): SavePoint {
    return this.#savePoint(this.#committedStep, this.#committedCursor);
  }

  /**
   * One generation, until it is over. All its members hold the state of `committedStep`.
   * @throws what ends the run: a failure that another generation would have as well, DISK_FULL, ABORTED
   */
  async run(generation: Generation, signal: AbortSignal): Promise<GenerationEnding> {
    this.#begin(generation);
    for (const [worker, message] of this.#lateSaved) await this.#takeSaved(worker, message);
    this.#lateSaved.clear();
    for (;;) {
      await this.#dealAhead();
      const ending = this.#endingInOrder();
      if (ending !== undefined) return ending;
      const event = await this.#init.server.events.next(TICK_MS, signal);
      const broken = (event === undefined ? undefined : await this.#handle(event, generation)) ?? this.#findOverdue();
      if (broken !== undefined) return broken;
    }
  }

  /** A report that came after its generation had ended: it may be all that is left of a step. */
  takeLateReport(workerId: string, report: StepReport): void {
    const past = this.#past;
    const { log } = this.#init;
    const { step, epoch, generation } = report;
    if (past?.epoch !== epoch || past.generation !== generation || step <= this.#committedStep) return;
    if (step > this.#committedStep + MOST_LATE_STEPS) return;
    this.#lateReports.push({ rank: past.members.indexOf(workerId), report });
    log.debug({ workerId, step }, 'late report');
  }

  /** Shards that were written when no generation was at work. */
  takeLateSaved(worker: WorkerHandle, message: SavedMessage): void {
    if (this.#init.saver.isWriting(worker, message)) this.#lateSaved.set(worker, message);
  }

  /**
   * Commits what survivors have applied but not all ranks could report, up to a step; its gradient is the canonical one, for no rank
   * applies any other. Losses are those of the lanes that were reported.
   * @returns whether the step is committed; not, where nobody has reported one on the way
   */
  async settle(step: number): Promise<boolean> {
    await this.#takeLateReports();
    while (this.#committedStep < step) {
      const summary = this.#openSteps?.settle(this.#committedStep + 1);
      if (summary === undefined) return false;
      await this.#commit(summary);
    }
    return true;
  }

  async #takeLateReports(): Promise<void> {
    const { dealer, log } = this.#init;
    for (const { rank, report } of this.#lateReports.splice(0).sort((a, b) => a.report.step - b.report.step)) {
      const openSteps = this.#openSteps!;
      while (dealer.step < report.step) this.#dealInto(await dealer.deal());
      for (const deal of this.#pending.values()) openSteps.deal(deal);
      if (rank < 0 || report.step <= this.#committedStep || openSteps.hasReported(rank, report.step)) continue;
      try {
        const summary = openSteps.report(rank, report);
        if (summary !== undefined) await this.#commit(summary);
      } catch (error) {
        if (!(error instanceof TrainerError) || error.code !== 'MESSAGE_INVALID') throw error;
        log.warn({ rank, step: report.step, reason: error.message }, 'late report not taken');
      }
    }
  }

  #begin(generation: Generation): void {
    const { epoch, generation: number, members } = generation;
    this.#generation = generation;
    this.#past = { epoch, generation: number, members: members.map(({ workerId }) => workerId) };
    this.#openSteps = this.#makeOpenSteps(members.length);
    this.#sentStep = this.#committedStep;
    this.#committedMs = this.#lookedMs = this.#init.clock.monotonicMs();
    this.#symptom = undefined;
  }

  #makeOpenSteps(worldSize: number): OpenSteps {
    const { taskNames, config } = this.#init;
    return new OpenSteps({ taskNames, numLanes: config.training.numLanes, worldSize });
  }

  #savePoint(step: number, cursor: RunCursor): SavePoint {
    const { generation, members } = this.#generation!;
    return { step, cursor, generation, worldSize: members.length };
  }

  /** No step will be dealt after this one. */
  #isLast(step: number): boolean {
    const { config, stopReason } = this.#init;
    return step >= config.training.steps || stopReason() !== undefined;
  }

  /** Somebody is ready who is not a member, and there is room. */
  #joiners(): string[] {
    const { config, roster } = this.#init;
    const { members } = this.#generation!;
    const most = config.cluster.maxWorkers ?? config.training.numLanes;
    return members.length >= most ? [] : roster.waiting(members).map(({ worker }) => worker.workerId);
  }

  #endingInOrder(): GenerationEnding | undefined {
    if (this.#sentStep > this.#committedStep) return undefined;
    const { saver } = this.#init;
    const isDone =
      this.#isLast(this.#sentStep) && saver.writingStep === undefined && this.#savedStep === this.#committedStep;
    if (isDone) return { kind: 'done' };
    const joiners = this.#isLast(this.#sentStep) ? [] : this.#joiners();
    return joiners.length === 0 ? undefined : { kind: 'boundary', reason: `${joiners.join(', ')} joins` };
  }

  async #dealAhead(): Promise<void> {
    const { dealer, config, clock } = this.#init;
    await this.#saveIfDue(this.#sentStep, this.#sentStep === this.#committedStep ? this.#committedCursor : undefined);
    while (
      !this.#isLast(this.#sentStep) &&
      this.#sentStep - this.#committedStep < config.cluster.plansAhead &&
      this.#joiners().length === 0
    ) {
      const step = this.#sentStep + 1;
      if (step > dealer.step) this.#dealInto(await dealer.deal());
      const deal = this.#pending.get(step)!;
      if (this.#sentStep === this.#committedStep) this.#committedMs = clock.monotonicMs();
      this.#openSteps!.deal(deal);
      this.#send(deal);
      this.#sentStep = step;
      await this.#saveIfDue(step, deal.cursor);
    }
  }

  #dealInto(deal: StepDeal): void {
    this.#pending.set(deal.step, deal);
  }

  #send({ step, learningRate, targetTokens, lanes }: StepDeal): void {
    const { epoch, generation, members, runs } = this.#generation!;
    for (const [rank, member] of members.entries()) {
      const { first, end } = runs[rank]!;
      const own = lanes.slice(first, end).map((rows, i) => ({ lane: first + i, rows }));
      member.send({ kind: 'deal', epoch, generation, step, learningRate, targetTokens, lanes: own, proveState: false });
    }
  }

  /** @param step the last one sent: what members save is the state after it */
  async #saveIfDue(step: number, cursor = this.#pending.get(step)?.cursor): Promise<void> {
    const { saver, clock, stopReason } = this.#init;
    const { writingStep } = saver;
    const state = {
      step,
      isEnd: this.#isLast(step),
      savedStep: this.#savedStep,
      savedAtMs: this.#savedAtMs,
      ...(writingStep === undefined ? {} : { writingStep }),
    };
    const { save, reason } = decideCheckpoint(clock.monotonicMs(), state, this.#schedule);
    if (!save) return;
    await saver.start(this.#savePoint(step, cursor!), this.#generation!.members, stopReason() ?? reason);
  }

  /** @returns how the generation has ended, where it has */
  async #handle(
    event: ControlEvent,
    { members, epoch, generation }: Generation,
  ): Promise<GenerationEnding | undefined> {
    const { roster } = this.#init;
    const { worker } = event;
    const rank = members.indexOf(worker);
    if (rank < 0) {
      roster.take(event);
      return undefined;
    }
    const what = `rank ${rank}, ${worker.toString()}`;
    if (event.kind === 'joined') return undefined;
    if (event.kind === 'lost') {
      roster.take(event);
      const message = `${what}, was lost in step ${this.#committedStep + 1}: ${event.error.message}`;
      return { kind: 'broken', error: new TrainerError('WORKER_LOST', message), culprit: worker };
    }
    const { message } = event;
    if (message.kind === 'saved') {
      await this.#takeSaved(worker, message);
      return undefined;
    }
    if (message.epoch !== epoch || !('generation' in message) || message.generation !== generation) return undefined;
    if (message.kind === 'failed') return this.#takeFailure(what, worker, message);
    if (message.kind === 'report') {
      const summary = this.#openSteps!.report(rank, message);
      if (summary !== undefined) await this.#commit(summary);
      return undefined;
    }
    if (message.kind === 'not-finite')
      throw new TrainerError('GRADIENT_NOT_FINITE', `step ${message.step}: ${message.reason}; nothing was applied`);
    throw new TrainerError('MESSAGE_INVALID', `${worker.workerId} sent ${message.kind} while training`);
  }

  /**
   * Members whose peer has died fail too, and are often heard first: a broken link waits a little for its cause.
   * @throws what another generation would fail with as well
   */
  #takeFailure(
    what: string,
    worker: WorkerHandle,
    { error }: Extract<WorkerEventMessage, { kind: 'failed' }>,
  ): GenerationEnding | undefined {
    const cause = fromErrorRecord(error);
    const failure = new TrainerError(cause.code, `${what}, after step ${this.#committedStep}: ${cause.message}`, {
      cause,
    });
    const { reaction } = failure;
    if (reaction === 'usage' || reaction === 'data' || failure.code === 'DISK_FULL') throw failure;
    if (reaction === 'run' && failure.code !== 'COLLECTIVE_TIMEOUT')
      return { kind: 'broken', error: failure, culprit: worker };
    this.#symptom ??= { error: failure, sinceMs: this.#init.clock.monotonicMs() };
    return undefined;
  }

  async #commit(summary: StepSummary): Promise<void> {
    const { journal, clock, log, config, epoch } = this.#init;
    const { step, loss, gradDigest } = summary;
    const deal = this.#pending.get(step)!;
    const { cursor } = deal;
    const { generation, members } = this.#past!;
    await this.#init.record(summary, deal, generation); // before the commit, so that no committed step is without it
    const record = { epoch, generation, step, cursor: journalCursor(cursor), gradDigest, loss };
    await journal.append({ kind: 'step-committed', ...record });
    this.#pending.delete(step);
    for (const workerId of members) this.#commitsOf.set(workerId, this.commitsOf(workerId) + 1);
    this.#committedStep = step;
    this.#sentStep = Math.max(this.#sentStep, step);
    this.#committedCursor = cursor;
    this.#committedMs = clock.monotonicMs();
    const wallMs = this.#progress.commit(this.#committedMs);
    const tokensPerSecond = (1000 * (summary.inputTokens + summary.targetTokens)) / wallMs;
    const fields = stepLogFields(summary, {
      wallMs,
      tokensPerSecond,
      worldSize: members.length,
      generation,
      steps: config.training.steps,
      etaSeconds: this.#progress.etaSeconds(config.training.steps - step),
    });
    log.info(fields, 'step committed');
    this.#init.onCommit(summary, tokensPerSecond);
  }

  async #takeSaved(worker: WorkerHandle, message: SavedMessage): Promise<void> {
    const { saver } = this.#init;
    const published = saver.isWriting(worker, message) ? await saver.saved(worker, message) : undefined;
    if (published !== undefined) await this.#published(published);
  }

  async #published(checkpoint: PublishedCheckpoint): Promise<void> {
    this.#savedStep = checkpoint.step;
    this.#savedAtMs = this.#init.clock.monotonicMs();
    await this.#init.onPublish(checkpoint);
  }

  #findOverdue(): GenerationEnding | undefined {
    const { clock, config, saver } = this.#init;
    const { members } = this.#generation!;
    const nowMs = clock.monotonicMs();
    const stoodStill = nowMs - this.#lookedMs > TICK_MS + OWN_PAUSE_MS;
    this.#lookedMs = nowMs;
    if (stoodStill) return undefined;
    const step = this.#committedStep + 1;
    const isOpen = this.#sentStep >= step;
    const missing = isOpen ? this.#openSteps!.missingRanks(step) : [];
    const stalledMs = this.#stalledTime.look(nowMs, step, members, missing);
    const overdue = findOverdue(
      nowMs,
      { ...config.cluster, ...config.feed },
      {
        members,
        ...(this.#symptom === undefined ? {} : { symptom: this.#symptom }),
        ...(isOpen ? { step: { step, sinceMs: this.#committedMs, missing, stalledMs } } : {}),
        ...(saver.writing === undefined ? {} : { checkpoint: saver.writing }),
      },
    );
    if (overdue === undefined) return undefined;
    for (const worker of overdue.late) (worker as WorkerHandle).drop('WORKER_LOST', overdue.error.message);
    return { kind: 'broken', error: overdue.error };
  }
}
