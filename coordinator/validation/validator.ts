/**
 * Validates the checkpoints of a run: one validation at a time, across the generations of an epoch. It decides when one is due and which member
 * evaluates which batch; training.ts decides when batches may be dealt.
 *
 * Assumptions: the members hold the state of the checkpoint while a validation is under way, since no step is dealt then. A batch has the same
 * result on every worker.
 */
import { assertInvariant, toTrainerError } from '../../shared/errors.ts';
import type { EvaluatedMessage } from '../../shared/protocol/messages.ts';
import type { Runtime } from '../../shared/runtime.ts';
import type { CheckpointRef } from '../checkpoint/saver.ts';
import { bestSteps, scoreOf, type ValidatedTasks } from '../checkpoint/validation-score.ts';
import { BatchDealer } from '../evaluation/batch-dealer.ts';
import type { Journal } from '../journal/journal.ts';
import type { CheckpointValidated, ValidatedTask } from '../journal/journal-records.ts';
import type { Generation } from '../membership/generation.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { findEarlyStop, type EarlyStop } from './early-stop.ts';
import type { BatchOutcome, ScoredSet, ValidationSets } from './validation-sets.ts';
import type { ValidationStore } from './write-results.ts';

/** What is evaluated, and where results go. */
export interface ValidationParts {
  readonly sets: ValidationSets;
  readonly store: ValidationStore;
}

export interface ValidatorInit {
  readonly config: Pick<RunConfig, 'evaluation' | 'training' | 'checkpoint'>;
  readonly epoch: number;
  /** Undefined: nothing is evaluated. */
  readonly validation: ValidationParts | undefined;
  readonly journal: Pick<Journal, 'append' | 'state'>;
  readonly runtime: Runtime;
}

/** For the summary of a run and its status. */
export interface ValidationView {
  readonly newest?: ValidationOfStep;
  /** By `checkpoint.keepBest.metric`, among those with the settings of the newest. */
  readonly best?: ValidationOfStep;
  readonly underWay?: { readonly step: number; readonly batches: number; readonly of: number };
}

export interface ValidationOfStep {
  readonly step: number;
  readonly split: string;
  readonly metric: string;
  /** Of the metric; left out where it is not defined. */
  readonly score?: number;
  readonly tasks: ValidatedTasks;
}

/** A batch that a member evaluates now. */
export interface BatchUnderWay {
  readonly worker: WorkerHandle;
  readonly batch: number;
  readonly step: number;
  /** Since when, ms of the clock. */
  readonly sinceMs: number;
}

interface Validation {
  readonly checkpoint: CheckpointRef;
  readonly startedMs: number;
  readonly dealer: BatchDealer<WorkerHandle>;
  /** By batch. */
  readonly outcomes: (BatchOutcome | undefined)[];
  numFinished: number;
  /** Fingerprint of the engine of all workers; undefined before the first batch is dealt. */
  engine: string | undefined;
  /** When each member began the batch that it computes. */
  readonly begunMs: Map<WorkerHandle, number>;
}

export class Validator {
  readonly #init: ValidatorInit;
  #current: Validation | undefined;
  /** The last step whose validation is over: recorded, known before, or abandoned. */
  #settledStep = 0;
  /** The answer of `earlyStop`, which is asked at every event. */
  #known: { readonly of: readonly CheckpointValidated[]; readonly step: number; readonly stop?: EarlyStop } | undefined;

  constructor(init: ValidatorInit) {
    this.#init = init;
  }

  /** Whether no step may be dealt after this one until it is validated. */
  isDue(step: number): boolean {
    const { config, validation } = this.#init;
    const { everySteps } = config.evaluation;
    if (validation === undefined || everySteps === undefined || step === 0 || step === this.#settledStep) return false;
    return step % everySteps === 0 || step === config.training.steps;
  }

  /** Why no step is trained after this one, by `evaluation.stopWhen` and the validations up to it; undefined: the run goes on. */
  earlyStop(step: number): EarlyStop | undefined {
    const { config, validation, journal } = this.#init;
    const { everySteps, stopWhen } = config.evaluation;
    const { metric, patience } = stopWhen;
    if (validation === undefined || everySteps === undefined || patience === undefined) return undefined;
    const of = journal.state.validations;
    if (this.#known?.of !== of || this.#known.step !== step) {
      const { settings } = validation.sets;
      const alike = of.filter((known) => known.step <= step && known.settings === settings);
      const stop = findEarlyStop(alike, { metric, patience, everySteps });
      this.#known = { of, step, ...(stop === undefined ? {} : { stop }) };
    }
    return this.#known.stop;
  }

  /** Whether no member holds a batch. */
  get isIdle(): boolean {
    return this.underWay.length === 0;
  }

  /** The first batch of each member that holds one. */
  get underWay(): BatchUnderWay[] {
    const { dealer, begunMs, checkpoint } = this.#current ?? {};
    return [...(begunMs ?? [])].map(([worker, sinceMs]) => {
      return { worker, batch: dealer!.heldBy(worker)[0]!, step: checkpoint!.step, sinceMs };
    });
  }

  /** Begins the validation of a checkpoint; nothing happens where it is under way, or the journal has its result. */
  begin(checkpoint: CheckpointRef): void {
    const { validation, journal, runtime } = this.#init;
    const { step, paramDigest } = checkpoint;
    if (validation === undefined || this.#current?.checkpoint.step === step) return;
    const { settings, numBatches, numExamples, split } = validation.sets;
    if (journal.state.validations.some((known) => isOf(known, { step, paramDigest, settings }))) {
      this.#settledStep = step;
      runtime.log.debug({ step }, 'validation known');
      return;
    }
    this.#current = {
      checkpoint,
      startedMs: runtime.clock.monotonicMs(),
      dealer: new BatchDealer(Array.from({ length: numBatches }, (_, batch) => batch)),
      outcomes: Array.from({ length: numBatches }, () => undefined),
      numFinished: 0,
      engine: undefined,
      begunMs: new Map(),
    };
    runtime.log.info({ step, split, examples: numExamples, batches: numBatches }, 'validation started');
  }

  /** Deals each member the batches that it may hold. */
  deal({ epoch, generation, members, engineFingerprint }: Generation): void {
    const { validation, runtime } = this.#init;
    if (this.#current === undefined) return;
    const { dealer, begunMs } = this.#current;
    this.#current.engine = engineFingerprint;
    for (const worker of members) {
      dealer.join(worker);
      for (let batch = dealer.next(worker); batch !== undefined; batch = dealer.next(worker)) {
        worker.send({ kind: 'evaluate', epoch, generation, batch, work: validation!.sets.workOf(batch) });
        if (!begunMs.has(worker)) begunMs.set(worker, runtime.clock.monotonicMs());
      }
    }
  }

  /** A result. One that nobody waits for is ignored: its validation was abandoned. @throws MESSAGE_INVALID for a result of another batch */
  receive(worker: WorkerHandle, { batch, result }: EvaluatedMessage): void {
    const { validation, runtime } = this.#init;
    const current = this.#current;
    if (current?.dealer.heldBy(worker).includes(batch) !== true) return;
    const { dealer, outcomes } = current;
    if (result.kind === 'failed') {
      const { code, message: reason } = result.error;
      const { workerId } = worker;
      runtime.log.warn({ step: current.checkpoint.step, batch, workerId, code, reason }, 'batch not evaluated');
      dealer.fail(worker, batch, `${code}: ${reason}`);
    } else {
      outcomes[batch] = validation!.sets.read(batch, result);
      dealer.finish(worker, batch);
      current.numFinished += 1;
    }
    this.#beganNext(worker);
  }

  /** Its batches go to others. */
  leave(worker: WorkerHandle, reason: string): void {
    this.#current?.dealer.leave(worker, reason);
    this.#current?.begunMs.delete(worker);
  }

  /** Records the validation once all results are in, or abandons it where a batch was given up. @throws ABORTED, what the journal throws */
  async settle(signal: AbortSignal): Promise<void> {
    const { validation, journal, epoch, runtime } = this.#init;
    const current = this.#current;
    if (current === undefined) return;
    const { checkpoint, dealer, outcomes, startedMs, engine } = current;
    const { step, paramDigest } = checkpoint;
    const { givenUp } = dealer;
    if (givenUp !== undefined) {
      this.abandon(step, `batch ${givenUp.batch} was given up: ${givenUp.reason}`);
      return;
    }
    if (!dealer.isDone) return;
    assertInvariant(engine !== undefined, 'a validation with results was dealt');
    const { sets, store } = validation!;
    const { settings, split } = sets;
    let scored: readonly ScoredSet[];
    let results: string;
    try {
      const all = outcomes.map((outcome) => outcome!);
      scored = await sets.score(all, signal);
      results = await store.write(sets.resultsOf(scored, checkpoint, engine), scored);
    } catch (thrown) {
      const { code, message } = toTrainerError(thrown);
      if (code === 'ABORTED') throw thrown;
      this.abandon(step, `${code}: ${message}`); // training goes on
      return;
    }
    const tasks = Object.fromEntries(scored.map((set) => [set.name, summarizeSet(set)]));
    await journal.append({ kind: 'checkpoint-validated', epoch, step, paramDigest, settings, split, tasks });
    this.#current = undefined;
    this.#settledStep = step;
    const ms = Math.round(runtime.clock.monotonicMs() - startedMs);
    const { metric } = this.#init.config.checkpoint.keepBest;
    const score = scoreOf(metric, tasks)?.value ?? null;
    const loss = scoreOf('loss', tasks)?.value ?? null;
    const fields = { step, split, paramDigest, settings, loss, metric, score, tasks, results, ms };
    runtime.log.info(fields, 'validation');
    const stop = this.earlyStop(step);
    if (stop !== undefined) runtime.log.info({ ...stop, step }, 'run stops early');
  }

  /** Ends the validation that is due after this step, without a result. */
  abandon(step: number, reason: string): void {
    if (!this.isDue(step)) return;
    const [batches, of] = [this.#current?.numFinished ?? 0, this.#init.validation!.sets.numBatches];
    this.#current = undefined;
    this.#settledStep = step;
    this.#init.runtime.log.warn({ step, batches, of, reason }, 'validation abandoned');
  }

  view(): ValidationView {
    const { journal, config, validation } = this.#init;
    const current = this.#current;
    const underWay = current && {
      step: current.checkpoint.step,
      batches: current.numFinished,
      of: validation!.sets.numBatches,
    };
    return {
      ...viewValidations(journal.state.validations, config.checkpoint.keepBest.metric),
      ...(underWay === undefined ? {} : { underWay }),
    };
  }

  #beganNext(worker: WorkerHandle): void {
    const { dealer, begunMs } = this.#current!;
    if (dealer.heldBy(worker).length === 0) begunMs.delete(worker);
    else begunMs.set(worker, this.#init.runtime.clock.monotonicMs());
  }
}

function summarizeSet({ scores }: ScoredSet): ValidatedTask {
  const { numExamples, teacherForcing, outputs } = scores;
  const metrics = [...(outputs?.metrics ?? [])].map(([metric, { figures }]) => [
    metric,
    Object.fromEntries(Object.entries(figures).map(([name, { score }]) => [name, definedOrNull(score)])),
  ]);
  const loss = definedOrNull(teacherForcing.figures['loss']?.score ?? NaN);
  return { numExamples, loss, metrics: Object.fromEntries(metrics) as ValidatedTask['metrics'] };
}

function definedOrNull(score: number): number | null {
  return Number.isFinite(score) ? score : null;
}

/** The newest validation, and the best one with its settings. Pure. @param metric of `checkpoint.keepBest` */
export function viewValidations(validations: readonly CheckpointValidated[], metric: string): ValidationView {
  const [newest] = [...validations].sort((a, b) => b.epoch - a.epoch || b.step - a.step);
  if (newest === undefined) return {};
  const alike = validations.filter(({ settings }) => settings === newest.settings);
  const [best] = bestSteps(alike, metric, 1);
  return {
    newest: viewOf(newest, metric),
    ...(best === undefined
      ? {}
      : {
          best: viewOf(
            alike.find(({ step }) => step === best.step)!,
            metric,
          ),
        }),
  };
}

function viewOf({ step, split, tasks }: CheckpointValidated, metric: string): ValidationOfStep {
  const score = scoreOf(metric, tasks)?.value;
  return { step, split, metric, ...(score === undefined ? {} : { score }), tasks };
}

type Content = Pick<CheckpointValidated, 'step' | 'paramDigest' | 'settings'>;

function isOf(known: CheckpointValidated, { step, paramDigest, settings }: Content): boolean {
  return known.step === step && known.paramDigest === paramDigest && known.settings === settings;
}
