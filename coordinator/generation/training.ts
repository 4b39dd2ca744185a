/**
 * Trains one generation: deals steps a few ahead, commits each step when all ranks have reported it, saves and validates on schedule. It does
 * not decide who is a member: it returns how the generation ended. Steps that were dealt and not committed are dealt again to the next
 * generation, and so are batches of a validation.
 */
import type { RunConfig } from '../../shared/config/schema.ts';
import { fromErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { listNames } from '../../shared/list-names.ts';
import type { EvaluatedMessage, FailedMessage, SavedMessage } from '../../shared/protocol/messages.ts';
import type { Runtime } from '../../shared/runtime.ts';
import type { Saver } from '../checkpoint/saver.ts';
import type { UncommittedDeals } from '../deal/uncommitted-deals.ts';
import type { RunCursor } from '../deal/rate-changes.ts';
import type { Deal } from '../deal/step-dealer.ts';
import { DeadlineWatch } from '../health/deadline-watch.ts';
import type { WorkerSpeeds } from '../health/lane-speeds.ts';
import { SpeedWatch } from '../health/speed-watch.ts';
import type { ControlEvent, ControlServer, WorkerEventMessage } from '../membership/control-server.ts';
import {
  pastOf,
  type BreakCause,
  type BrokenGeneration,
  type Generation,
  type GenerationEnding,
} from '../membership/generation.ts';
import { TICK_MS } from '../membership/tick.ts';
import type { Roster } from '../membership/roster.ts';
import type { RunPhase } from '../membership/run-phase.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';
import type { Committer } from '../step/committer.ts';
import { describeNonFinite, MAX_SKIPPED, NonFiniteSteps, SKIP_SPAN, type NonFinitePolicy } from '../step/non-finite.ts';
import { isProven, type OpenSteps, type ReportedStep } from '../step/open-steps.ts';
import type { StepSettlement } from '../step/step-settlement.ts';
import type { Validator } from '../validation/validator.ts';

/** A step from its deal to its commit. */
export interface StepParts {
  readonly deals: UncommittedDeals;
  readonly settlement: StepSettlement;
  readonly committer: Committer;
  readonly nonFinite: NonFinitePolicy;
}

export interface TrainingInit {
  readonly config: RunConfig;
  readonly taskNames: readonly string[];
  readonly generation: Generation;
  readonly membership: { readonly server: Pick<ControlServer, 'events'>; readonly roster: Roster };
  readonly steps: StepParts;
  readonly saver: Saver;
  readonly validator: Validator;
  readonly speeds: WorkerSpeeds;
  readonly phase: Pick<RunPhase, 'stopReason'>;
  readonly runtime: Runtime;
}

export class Training {
  readonly #init: TrainingInit;
  readonly #openSteps: OpenSteps;
  readonly #deadlines: DeadlineWatch;
  readonly #ranks: ReadonlyMap<WorkerHandle, number>;
  readonly #nonFinite = new NonFiniteSteps();
  readonly #speedWatch: SpeedWatch;
  /** The last step that the members were sent. */
  #sentStep: number;
  /** Time at which the oldest open step became the oldest, ms of the clock. Meaningless while no step is open. */
  #openSinceMs: number;
  /** The generation has broken during a validation: it ends when the members have finished the batches that they hold. */
  #broken: BrokenGeneration | undefined;

  /** Assumes that all members hold the state of the committed step. */
  constructor(init: TrainingInit) {
    this.#init = init;
    const { config, generation, steps, saver, validator, speeds, runtime } = init;
    const { clock, log } = runtime;
    const { committer } = steps;
    const { members } = generation;
    this.#openSteps = steps.settlement.begin(pastOf(generation));
    this.#deadlines = new DeadlineWatch({ config, clock, saver, validator, members, stepTimes: committer.stepTimes });
    this.#ranks = new Map(members.map((worker, rank) => [worker, rank]));
    this.#speedWatch = new SpeedWatch({ config, generation, speeds, log });
    this.#sentStep = committer.step;
    this.#openSinceMs = clock.monotonicMs();
  }

  /** One sentence for each rank or link that is slow now. */
  get slow(): readonly string[] {
    return this.#speedWatch.slow;
  }

  /** @throws a failure that every later generation would have as well, DISK_FULL, ABORTED */
  async run(signal: AbortSignal): Promise<GenerationEnding> {
    const { events } = this.#init.membership.server;
    for (const [worker, message] of this.#init.saver.drainKept()) {
      if (message.kind === 'failed') await this.#onUnwritten(worker.toString(), worker, message);
      const broken = message.kind === 'saved' ? await this.#onSaved(worker, message) : undefined;
      if (broken !== undefined) return broken;
    }
    for (;;) {
      await this.#dealAhead();
      await this.#validate(signal);
      const ending = this.#endAtBoundary();
      if (ending !== undefined) return ending;
      const event = await events.next(TICK_MS, signal);
      const broken = event === undefined ? undefined : await this.#onEvent(event);
      if (this.#endsNow(broken)) return broken;
      this.#tryLinks();
      // Check deadlines only when the mailbox is empty: after a pause of our own, queued messages look late but are not.
      const overdue = events.size === 0 ? this.#findOverdue() : undefined;
      if (this.#endsNow(overdue)) return overdue;
    }
  }

  /** During a validation a generation that has broken lets its members finish the batches that they hold: no step is open. */
  #endsNow(ending: GenerationEnding | undefined): ending is GenerationEnding {
    if (ending?.kind !== 'broken') return ending !== undefined;
    const { validator } = this.#init;
    if (validator.isIdle) return true;
    const { cause, error } = ending;
    const lost = cause.kind === 'members' ? cause.culprits : cause.kind === 'outliers' ? cause.outliers : [];
    for (const worker of lost) validator.leave(worker, error.message);
    this.#broken ??= ending;
    return false;
  }

  /** Validates the checkpoint of the last step that was dealt, where it is due and the step is committed and saved. */
  async #validate(signal: AbortSignal): Promise<void> {
    const { validator, saver, steps, generation } = this.#init;
    const step = this.#sentStep;
    if (!validator.isDue(step)) return;
    const halted = this.#haltReason();
    if (halted !== undefined) {
      validator.abandon(step, halted);
      return;
    }
    if (steps.committer.step !== step || saver.writing !== undefined || saver.newest?.step !== step) return;
    validator.begin(saver.newest);
    await validator.settle(signal);
    if (this.#broken === undefined && this.#changeReason() === undefined) validator.deal(generation);
    if (!validator.isDue(step)) steps.committer.resumeClock();
  }

  /** Whether no step is dealt after this one. */
  #isLast(step: number): boolean {
    return this.#endsRun(step) || this.#haltReason() !== undefined;
  }

  /** Whether the run has no step after this one: it is the last, or `evaluation.stopWhen` has decided so. */
  #endsRun(step: number): boolean {
    const { config, validator } = this.#init;
    return step >= config.training.steps || validator.earlyStop(step) !== undefined;
  }

  /** Why this generation trains no further and saves: the run is to stop, or no member stays that would hold the state. */
  #haltReason(): string | undefined {
    const { phase, generation } = this.#init;
    const { members } = generation;
    if (phase.stopReason !== undefined) return phase.stopReason;
    return members.every(({ isDraining }) => isDraining) ? describeLeaving(members) : undefined;
  }

  /** Why the generation is to end at the next step boundary: a member leaves, a ready worker can join, or lanes are to move. */
  #changeReason(): string | undefined {
    const { membership, generation } = this.#init;
    const leaving = generation.members.filter(({ isDraining }) => isDraining);
    if (leaving.length > 0) return describeLeaving(leaving);
    const joiners = this.#isFull
      ? []
      : membership.roster.waiting(generation.members).map(({ worker }) => worker.workerId);
    return joiners.length > 0 ? `${listNames(joiners)} joins` : this.#speedWatch.rebalanceReason;
  }

  get #isFull(): boolean {
    const { config, generation } = this.#init;
    return generation.members.length >= (config.cluster.maxWorkers ?? config.training.numLanes);
  }

  /** Beside the run: a worker that was left out joins only when its links to all members work. */
  #tryLinks(): void {
    const { membership, generation } = this.#init;
    if (membership.server.events.size > 0 || this.#isFull || this.#haltReason() !== undefined) return;
    membership.roster.tryLinks(generation.members);
  }

  #endAtBoundary(): GenerationEnding | undefined {
    const { saver, steps, phase, validator } = this.#init;
    const { step } = steps.committer;
    if (this.#sentStep > step || !validator.isIdle) return undefined;
    if (this.#broken !== undefined) return this.#broken;
    if (!this.#isLast(this.#sentStep) || validator.isDue(step)) {
      const owesShards = saver.missing().some(({ isDraining }) => isDraining); // it leaves when they are written
      const reason = owesShards ? undefined : this.#changeReason();
      return reason === undefined ? undefined : { kind: 'boundary', reason };
    }
    if (saver.writing !== undefined || saver.savedStep !== step) return undefined;
    const isOver = this.#endsRun(step) || phase.stopReason !== undefined;
    return isOver ? { kind: 'done' } : { kind: 'boundary', reason: this.#haltReason()! };
  }

  async #dealAhead(): Promise<void> {
    const { steps, validator, config, runtime } = this.#init;
    const { deals, committer } = steps;
    const { cursor } = this.#sentStep === committer.step ? committer : deals.find(this.#sentStep)!;
    await this.#saveIfDue(this.#sentStep, cursor);
    while (
      !this.#isLast(this.#sentStep) &&
      !validator.isDue(this.#sentStep) &&
      this.#sentStep - committer.step < config.cluster.plansAhead &&
      this.#changeReason() === undefined
    ) {
      const deal = await deals.dealUpTo(this.#sentStep + 1);
      if (this.#sentStep === committer.step) this.#openSinceMs = runtime.clock.monotonicMs();
      this.#openSteps.open(deal);
      this.#send(deal);
      this.#sentStep = deal.step;
      await this.#saveIfDue(deal.step, deal.cursor);
    }
  }

  #send({ step, learningRate, targetTokens, lanes }: Deal): void {
    const { epoch, generation, members, runs } = this.#init.generation;
    const proveState = isProven(step, this.#init.config.training);
    const facts = { epoch, generation, step, learningRate, targetTokens, proveState };
    for (const [rank, member] of members.entries()) {
      const { first, end } = runs[rank]!;
      const own = lanes.slice(first, end).map((rows, i) => ({ lane: first + i, rows }));
      member.send({ kind: 'deal', ...facts, lanes: own });
    }
  }

  /** @param step the last one sent; members save the state after it @param cursor the plan's place after that step */
  async #saveIfDue(step: number, cursor: RunCursor): Promise<void> {
    const { saver, validator, generation } = this.#init;
    const request = validator.isDue(step) ? `the validation of step ${step}` : undefined;
    const reason = saver.whyDue(step, this.#isLast(step), request);
    if (reason === undefined) return;
    await saver.start({ step, cursor, generation }, generation.members, this.#haltReason() ?? reason);
  }

  /** @returns how the generation ended; undefined while it continues */
  async #onEvent(event: ControlEvent): Promise<GenerationEnding | undefined> {
    const { membership, steps } = this.#init;
    const { worker } = event;
    const rank = this.#ranks.get(worker);
    if (rank === undefined) {
      membership.roster.handle(event);
      membership.roster.releaseDraining(this.#init.generation.members);
      return undefined;
    }
    const name = `rank ${rank}, ${worker.toString()}`;
    switch (event.kind) {
      case 'joined':
        return undefined;
      case 'lost': {
        membership.roster.handle(event);
        const message = `${name}, was lost in step ${steps.committer.step + 1}: ${event.error.message}`;
        const error = new TrainerError('WORKER_LOST', message);
        return { kind: 'broken', error, cause: { kind: 'members', culprits: [worker] } };
      }
      case 'message':
        return this.#onMessage(name, rank, worker, event.message);
    }
  }

  async #onMessage(
    name: string,
    rank: number,
    worker: WorkerHandle,
    message: WorkerEventMessage,
  ): Promise<GenerationEnding | undefined> {
    const { steps, generation } = this.#init;
    if (message.kind === 'drain') return undefined; // the next boundary acts on it
    if (message.kind === 'links-probed') {
      this.#init.membership.roster.handle({ kind: 'message', worker, message });
      return undefined;
    }
    // Shards may belong to a checkpoint that an earlier generation began.
    if (message.kind === 'saved') return this.#onSaved(worker, message);
    if (message.kind === 'failed' && message.unsavedStep !== undefined) return this.#onUnwritten(name, worker, message);
    const isOfThis = message.epoch === generation.epoch && 'generation' in message;
    if (!isOfThis || message.generation !== generation.generation) {
      // A member has sent its reports of earlier generations before it was formed into this one. Failures may be late.
      if (message.kind === 'report' || message.kind === 'not-finite')
        this.#refuse(
          worker,
          `${message.kind} of epoch ${message.epoch}, generation ${message.generation} while training`,
        );
      return undefined;
    }
    switch (message.kind) {
      case 'failed':
        return this.#onFailed(name, worker, message);
      case 'report': {
        const reported = this.#openSteps.receive(rank, message);
        return reported === undefined ? this.#judgeNonFinite() : this.#commit(reported);
      }
      case 'not-finite':
        this.#nonFinite.receive(rank, message, { committed: steps.committer.step, dealt: this.#sentStep });
        return this.#judgeNonFinite();
      case 'evaluated':
        this.#onEvaluated(worker, message);
        return undefined;
      case 'formed':
      case 'aborted':
        this.#refuse(worker, `${message.kind} while training`);
        return undefined;
    }
  }

  /** Drops a member that breaks the protocol; `lost` follows. */
  #refuse(worker: WorkerHandle, reason: string): void {
    const { workerId } = worker;
    this.#init.runtime.log.warn({ workerId, code: 'MESSAGE_INVALID', reason }, 'connection closed');
    worker.drop('MESSAGE_INVALID', reason);
  }

  #onEvaluated(worker: WorkerHandle, message: EvaluatedMessage): void {
    try {
      this.#init.validator.receive(worker, message);
    } catch (thrown) {
      this.#refuse(worker, toTrainerError(thrown).message);
    }
  }

  async #commit(reported: ReportedStep): Promise<GenerationEnding | undefined> {
    const { steps, generation, runtime } = this.#init;
    const { clock, log } = runtime;
    const divergence = await steps.settlement.commit(reported);
    this.#openSinceMs = clock.monotonicMs();
    this.#speedWatch.observe(reported);
    if (steps.nonFinite.wasRetried(reported.step)) {
      const reason = 'the same rows gave a gradient that was not finite before; the cause is unknown';
      log.warn({ step: reported.step, reason }, 'gradient finite again');
    }
    if (divergence === undefined) return this.#judgeNonFinite();
    const { error } = divergence;
    const outliers = generation.members.filter(({ workerId }) => divergence.outliers.includes(workerId));
    return {
      kind: 'broken',
      error,
      cause: outliers.length > 0 ? { kind: 'outliers', outliers } : { kind: 'undecided' },
    };
  }

  /** Judges the oldest open step once every rank has reported it or found it not finite. @throws GRADIENT_NOT_FINITE */
  async #judgeNonFinite(): Promise<GenerationEnding | undefined> {
    const { steps, generation, taskNames } = this.#init;
    const { committer, settlement, deals, nonFinite } = steps;
    const { members } = generation;
    const step = committer.step + 1;
    if (!this.#nonFinite.knows(step)) return undefined;
    const verdict = this.#nonFinite.judge(step, members.length, this.#openSteps.missingRanks(step));
    if (verdict.kind === 'none') return undefined;
    const { messages } = verdict;
    const message = describeNonFinite(step, messages, (lane) => deals.find(step)!.lanes[lane]!, taskNames);
    const error = new TrainerError('GRADIENT_NOT_FINITE', message);
    // The gradient was finite and was applied, but the loss was not: the step has no loss to journal.
    if (messages.some(({ isGradientFinite }) => isGradientFinite)) throw error;
    if (verdict.kind === 'some') {
      const applied = members.filter((_, rank) => !verdict.ranks.includes(rank));
      // With a majority, the others are merely behind and copy the state. Without one, nobody knows which state is right.
      const isMajority = 2 * applied.length > members.length;
      if (!isMajority) {
        const ids = applied.map(({ workerId }) => workerId);
        await settlement.spoil(step, ids);
      }
      const ranks = `${message}, but not on all ranks: ${applied.length} of ${members.length} have applied it`;
      return { kind: 'broken', error: new TrainerError('GRADIENT_DIVERGED', ranks), cause: { kind: 'undecided' } };
    }
    const decision = nonFinite.decide(step);
    if (decision === 'end') throw error;
    if (decision === 'too-many-skipped')
      throw new TrainerError(
        'GRADIENT_NOT_FINITE',
        `${message}; ${MAX_SKIPPED} of the ${SKIP_SPAN} steps before were skipped already: lower the learning rate, or look at the data of these steps (exmix ledger show)`,
        { cause: error },
      );
    if (decision === 'skip') await committer.skip(message, pastOf(generation));
    return { kind: 'broken', error, cause: { kind: 'not-finite' } };
  }

  /** The shards may come from writers of an earlier generation: outliers that are no members now were dropped already. */
  async #onSaved(worker: WorkerHandle, message: SavedMessage): Promise<GenerationEnding | undefined> {
    const { saver, membership, runtime } = this.#init;
    const outcome = saver.isWriting(worker, message) ? await saver.saved(worker, message) : undefined;
    if (outcome?.kind !== 'differ') return undefined;
    const { majority: expected, error } = outcome;
    const differing = outcome.outliers.filter((outlier) => this.#ranks.has(outlier.worker));
    if (differing.length === 0) return undefined;
    for (const { worker: outlier, digest: found } of differing) {
      const [rank, { workerId }] = [this.#ranks.get(outlier), outlier];
      runtime.log.error({ step: message.step, rank, workerId, expected, found }, 'rank differs');
    }
    const outliers = differing.map((outlier) => outlier.worker);
    await membership.roster.distrust(outliers.map(({ workerId }) => workerId));
    return { kind: 'broken', error, cause: { kind: 'outliers', outliers } };
  }

  /** Other members save again, without this one. @throws DISK_FULL, which the others would get too; its failure where it was the last writer */
  async #onUnwritten(name: string, worker: WorkerHandle, message: FailedMessage): Promise<undefined> {
    const { saver } = this.#init;
    if (!saver.isUnwritten(worker, message)) return; // of a checkpoint that was abandoned
    const failure = this.#failureOf(name, message);
    if (failure.code === 'DISK_FULL') throw failure;
    await saver.unwritten(worker, failure);
  }

  #failureOf(name: string, { error }: FailedMessage): TrainerError {
    const cause = fromErrorRecord(error);
    const message = `${name}, after step ${this.#init.steps.committer.step}: ${cause.message}`;
    return new TrainerError(cause.code, message, { cause });
  }

  /**
   * A peer's death makes links of other members fail, and their reports often arrive first: a link failure waits a little for its cause.
   * @throws a failure that every later generation would have as well
   */
  #onFailed(name: string, worker: WorkerHandle, failed: FailedMessage): GenerationEnding | undefined {
    const failure = this.#failureOf(name, failed);
    const { reaction } = failure;
    if (reaction === 'usage' || reaction === 'data' || failure.code === 'DISK_FULL') throw failure;
    if (reaction === 'run' && failure.code !== 'COLLECTIVE_TIMEOUT')
      return { kind: 'broken', error: failure, cause: { kind: 'members', culprits: [worker] } };
    this.#deadlines.suspect(worker, failure, failed.peers ?? []);
    return undefined;
  }

  #findOverdue(): GenerationEnding | undefined {
    const step = this.#init.steps.committer.step + 1;
    const isOpen = this.#sentStep >= step;
    const missing = this.#openSteps.missingRanks(step).filter((rank) => !this.#nonFinite.hasSaid(rank, step));
    const overdue = this.#deadlines.poll(isOpen ? { step, sinceMs: this.#openSinceMs, missing } : undefined);
    if (overdue === undefined) return undefined;
    const { error, late, links } = overdue;
    for (const worker of late) worker.dropAsHung('WORKER_LOST', error.message);
    const cause: BreakCause =
      links === undefined ? { kind: 'members', culprits: late } : { kind: 'links', failures: links };
    return { kind: 'broken', error, cause };
  }
}

function describeLeaving(members: readonly WorkerHandle[]): string {
  return `${listNames(members.map(({ workerId, drainReason }) => `${workerId} (${drainReason})`))} ${members.length === 1 ? 'leaves' : 'leave'}`;
}
