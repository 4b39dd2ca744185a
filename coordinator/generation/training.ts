/**
 * The training of one generation: deals steps a few ahead, commits each when all ranks have reported it, saves on schedule. It decides
 * nothing about membership: it says how the generation has ended, and whoever runs it does. What was dealt and is not committed is dealt
 * again to the next one (dealt-steps.ts).
 */
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { fromErrorRecord, TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import type { PublishedCheckpoint } from '../checkpoint/publish.ts';
import type { Committer } from '../step/committer.ts';
import type { ControlEvent, ControlServer } from '../membership/control-server.ts';
import type { DealtSteps } from '../deal/dealt-steps.ts';
import { pastOf, type Generation, type GenerationEnding } from '../membership/generation.ts';
import { listNames } from '../../shared/list-names.ts';
import { describeNonFinite, NonFiniteSteps, type NonFinitePolicy } from '../step/non-finite.ts';
import { isProven, type OpenSteps, type ReportedStep } from '../step/open-steps.ts';
import type { Roster } from '../membership/roster.ts';
import type { Saver } from '../checkpoint/saver.ts';
import type { FailedMessage, SavedMessage } from '../../shared/protocol/messages.ts';
import type { Settling } from '../step/step-settlement.ts';
import type { StepDeal } from '../deal/step-dealer.ts';
import type { RunCursor } from '../deal/rate-changes.ts';
import { SpeedWatch } from '../health/speed-watch.ts';
import { Watch } from '../health/deadline-watch.ts';
import type { WorkerSpeeds } from '../health/lane-speeds.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';

/** How often deadlines are looked at when nothing happens, ms. */
const TICK_MS = 200;

export interface TrainingInit {
  readonly config: RunConfig;
  readonly generation: Generation;
  readonly server: Pick<ControlServer, 'events'>;
  readonly roster: Roster;
  readonly deals: DealtSteps;
  readonly committer: Committer;
  readonly settling: Settling;
  readonly nonFinite: NonFinitePolicy;
  readonly speeds: WorkerSpeeds;
  readonly taskNames: readonly string[];
  readonly saver: Saver;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onPublish: (checkpoint: PublishedCheckpoint) => Promise<void>;
  /** Why the run is to stop, once it is. */
  readonly stopReason: () => string | undefined;
}

export class Training {
  readonly #init: TrainingInit;
  readonly #openSteps: OpenSteps;
  readonly #watch: Watch;
  readonly #ranks: ReadonlyMap<WorkerHandle, number>;
  readonly #nonFinite = new NonFiniteSteps();
  readonly #speedWatch: SpeedWatch;
  /** The last step that the generation was sent. */
  #sentStep: number;
  /** Since when the oldest open step is the oldest one, where one is open. */
  #openSinceMs: number;

  /** All members hold the state of the committed step. */
  constructor(init: TrainingInit) {
    this.#init = init;
    const { config, generation, settling, committer, saver, clock } = init;
    const { members } = generation;
    this.#openSteps = settling.begin(pastOf(generation));
    this.#watch = new Watch({ config, clock, saver, members, stepTimes: committer.stepTimes, tickMs: TICK_MS });
    this.#ranks = new Map(members.map((worker, rank) => [worker, rank]));
    this.#speedWatch = new SpeedWatch(init);
    this.#sentStep = committer.step;
    this.#openSinceMs = clock.monotonicMs();
  }

  /** Who is slow now, and why. */
  get slow(): readonly string[] {
    return this.#speedWatch.slow;
  }

  /** @throws what ends the run: a failure that another generation would have as well, DISK_FULL, ABORTED */
  async run(signal: AbortSignal): Promise<GenerationEnding> {
    for (const [worker, message] of this.#init.saver.takeKept()) {
      const broken =
        message.kind === 'saved'
          ? await this.#takeSaved(worker, message)
          : this.#takeFailure(worker.toString(), worker, message);
      if (broken !== undefined) return broken;
    }
    for (;;) {
      await this.#dealAhead();
      const ending = this.#endingInOrder();
      if (ending !== undefined) return ending;
      const { events } = this.#init.server;
      const event = await events.next(TICK_MS, signal);
      const broken = event === undefined ? undefined : await this.#handle(event);
      if (broken !== undefined) return broken;
      // What waits was late to be heard, and not late to be said: where this process stood still, nobody is to blame.
      const overdue = events.size === 0 ? this.#findOverdue() : undefined;
      if (overdue !== undefined) return overdue;
    }
  }

  /** No step will be dealt after this one. */
  #isLast(step: number): boolean {
    const { config, stopReason } = this.#init;
    return step >= config.training.steps || stopReason() !== undefined;
  }

  /** Why the generation is to end at the next boundary: somebody is ready who is not a member, and there is room; or lanes move. */
  #whyChange(): string | undefined {
    const { config, roster, generation } = this.#init;
    const most = config.cluster.maxWorkers ?? config.training.numLanes;
    const isFull = generation.members.length >= most;
    const joiners = isFull ? [] : roster.waiting(generation.members).map(({ worker }) => worker.workerId);
    return joiners.length > 0 ? `${listNames(joiners)} joins` : this.#speedWatch.rebalanceReason;
  }

  #endingInOrder(): GenerationEnding | undefined {
    const { saver, committer } = this.#init;
    if (this.#sentStep > committer.step) return undefined;
    const isLast = this.#isLast(this.#sentStep);
    if (isLast && saver.writing === undefined && saver.savedStep === committer.step) return { kind: 'done' };
    const reason = isLast ? undefined : this.#whyChange();
    return reason === undefined ? undefined : { kind: 'boundary', reason };
  }

  async #dealAhead(): Promise<void> {
    const { deals, config, clock, committer } = this.#init;
    const { cursor } = this.#sentStep === committer.step ? committer : deals.of(this.#sentStep)!;
    await this.#saveIfDue(this.#sentStep, cursor);
    while (
      !this.#isLast(this.#sentStep) &&
      this.#sentStep - committer.step < config.cluster.plansAhead &&
      this.#whyChange() === undefined
    ) {
      const deal = await deals.get(this.#sentStep + 1);
      if (this.#sentStep === committer.step) this.#openSinceMs = clock.monotonicMs();
      this.#openSteps.deal(deal);
      this.#send(deal);
      this.#sentStep = deal.step;
      await this.#saveIfDue(deal.step, deal.cursor);
    }
  }

  #send({ step, learningRate, targetTokens, lanes }: StepDeal): void {
    const { epoch, generation, members, runs } = this.#init.generation;
    const proveState = isProven(step, this.#init.config.training);
    const facts = { epoch, generation, step, learningRate, targetTokens, proveState };
    for (const [rank, member] of members.entries()) {
      const { first, end } = runs[rank]!;
      const own = lanes.slice(first, end).map((rows, i) => ({ lane: first + i, rows }));
      member.send({ kind: 'deal', ...facts, lanes: own });
    }
  }

  /** @param step the last one sent: what members save is the state after it @param cursor after that step */
  async #saveIfDue(step: number, cursor: RunCursor): Promise<void> {
    const { saver, stopReason, generation } = this.#init;
    const reason = saver.whyDue(step, this.#isLast(step));
    if (reason === undefined) return;
    const { generation: number, members } = generation;
    const point = { step, cursor, generation: number, worldSize: members.length };
    await saver.start(point, members, stopReason() ?? reason);
  }

  /** @returns how the generation has ended, where it has */
  async #handle(event: ControlEvent): Promise<GenerationEnding | undefined> {
    const { roster, committer } = this.#init;
    const { epoch, generation } = this.#init.generation;
    const { worker } = event;
    const rank = this.#ranks.get(worker);
    if (rank === undefined) {
      roster.take(event);
      return undefined;
    }
    const what = `rank ${rank}, ${worker.toString()}`;
    if (event.kind === 'joined') return undefined;
    if (event.kind === 'lost') {
      roster.take(event);
      const message = `${what}, was lost in step ${committer.step + 1}: ${event.error.message}`;
      return { kind: 'broken', error: new TrainerError('WORKER_LOST', message), culprits: [worker] };
    }
    const { message } = event;
    if (message.kind === 'saved') return this.#takeSaved(worker, message);
    if (message.kind === 'failed' && this.#init.saver.isUnwritten(worker, message))
      return this.#takeFailure(what, worker, message);
    if (message.epoch !== epoch || !('generation' in message) || message.generation !== generation) return undefined;
    if (message.kind === 'failed') return this.#takeFailure(what, worker, message);
    if (message.kind === 'report') {
      const reported = this.#openSteps.report(rank, message);
      return reported === undefined ? this.#judgeNonFinite() : this.#commit(reported);
    }
    if (message.kind === 'not-finite') {
      if (message.step > this.#sentStep)
        throw new TrainerError('MESSAGE_INVALID', `${what}: step ${message.step} was not dealt`);
      this.#nonFinite.take(rank, message);
      return this.#judgeNonFinite();
    }
    throw new TrainerError('MESSAGE_INVALID', `${worker.workerId} sent ${message.kind} while training`);
  }

  async #commit(reported: ReportedStep): Promise<GenerationEnding | undefined> {
    const { settling, generation, clock, nonFinite, log } = this.#init;
    const divergence = await settling.commit(reported);
    this.#openSinceMs = clock.monotonicMs();
    this.#speedWatch.observe(reported);
    if (nonFinite.wasRetried(reported.step)) {
      const reason = 'it was not finite before and is now, from the same rows: whose fault that was cannot be told';
      log.warn({ step: reported.step, reason }, 'gradient finite again');
    }
    if (divergence === undefined) return this.#judgeNonFinite();
    const { error } = divergence;
    const outliers = generation.members.filter(({ workerId }) => divergence.outliers.includes(workerId));
    return { kind: 'broken', error, outliers };
  }

  /** The oldest open step, when every rank has said what came of it. @throws GRADIENT_NOT_FINITE */
  async #judgeNonFinite(): Promise<GenerationEnding | undefined> {
    const { committer, settling, generation, deals, taskNames, nonFinite } = this.#init;
    const { members } = generation;
    const step = committer.step + 1;
    if (!this.#nonFinite.knows(step)) return undefined;
    const verdict = this.#nonFinite.judge(step, members.length, this.#openSteps.missingRanks(step));
    if (verdict.kind === 'none') return undefined;
    const { messages } = verdict;
    const message = describeNonFinite(step, messages, (lane) => deals.of(step)!.lanes[lane]!, taskNames);
    const error = new TrainerError('GRADIENT_NOT_FINITE', message);
    // What is applied without a loss that can be told has no place in the journal.
    if (messages.some(({ isGradientFinite }) => isGradientFinite)) throw error;
    if (verdict.kind === 'some') {
      const applied = members.filter((_, rank) => !verdict.ranks.includes(rank));
      const isMajority = 2 * applied.length > members.length; // then the others are behind, and copy the state
      if (!isMajority) {
        const ids = applied.map(({ workerId }) => workerId);
        await settling.spoil(step, ids);
      }
      const ranks = `${message}, but not on all ranks: ${applied.length} of ${members.length} have applied it`;
      return { kind: 'broken', error: new TrainerError('GRADIENT_DIVERGED', ranks), outliers: [] };
    }
    const decision = nonFinite.decide(step);
    if (decision === 'end') throw error;
    if (decision === 'skip') await committer.skip(message, pastOf(generation));
    return { kind: 'broken', error };
  }

  /** Shards of an earlier generation may be among them: whoever differed there and is no member now has been told apart already. */
  async #takeSaved(worker: WorkerHandle, message: SavedMessage): Promise<GenerationEnding | undefined> {
    const { saver, onPublish, roster, log } = this.#init;
    const outcome = saver.isWriting(worker, message) ? await saver.saved(worker, message) : undefined;
    if (outcome?.kind === 'published') await onPublish(outcome.checkpoint);
    if (outcome?.kind !== 'differ') return undefined;
    const { majority: expected, error } = outcome;
    const differing = outcome.outliers.filter((outlier) => this.#ranks.has(outlier.worker));
    if (differing.length === 0) return undefined;
    for (const { worker: outlier, digest: found } of differing) {
      const [rank, { workerId }] = [this.#ranks.get(outlier), outlier];
      log.error({ step: message.step, rank, workerId, expected, found }, 'rank differs');
    }
    const outliers = differing.map((outlier) => outlier.worker);
    await roster.distrust(outliers.map(({ workerId }) => workerId));
    return { kind: 'broken', error, outliers };
  }

  /**
   * Members whose peer has died fail too, and are often heard first: a broken link waits a little for its cause.
   * @throws what another generation would fail with as well
   */
  #takeFailure(what: string, worker: WorkerHandle, { error, peers = [] }: FailedMessage): GenerationEnding | undefined {
    const cause = fromErrorRecord(error);
    const message = `${what}, after step ${this.#init.committer.step}: ${cause.message}`;
    const failure = new TrainerError(cause.code, message, { cause });
    const { reaction } = failure;
    if (reaction === 'usage' || reaction === 'data' || failure.code === 'DISK_FULL') throw failure;
    if (reaction === 'run' && failure.code !== 'COLLECTIVE_TIMEOUT')
      return { kind: 'broken', error: failure, culprits: [worker] };
    this.#watch.suspect(worker, failure, peers);
    return undefined;
  }

  #findOverdue(): GenerationEnding | undefined {
    const step = this.#init.committer.step + 1;
    const isOpen = this.#sentStep >= step;
    const missing = this.#openSteps.missingRanks(step).filter((rank) => !this.#nonFinite.hasSaid(rank, step));
    const overdue = this.#watch.look(isOpen ? { step, sinceMs: this.#openSinceMs, missing } : undefined);
    if (overdue === undefined) return undefined;
    const { error, late, links } = overdue;
    for (const worker of late) worker.giveUp('WORKER_LOST', error.message);
    return { kind: 'broken', error, culprits: late, ...(links === undefined ? {} : { links }) };
  }
}
