/**
 * The worker process: one device, three threads. This one computes; the network thread has the sockets, the feed thread makes batches. It
 * executes the coordinator's commands in their order and decides nothing about the run.
 *
 * Engine, feed, writer and state outlive generations and coordinators: they are created at the first welcome, and every generation uses
 * them.
 */
import type { Clock } from '../shared/clock.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { assertInvariant, toErrorRecord, toTrainerError, TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { ReadyMessage } from '../shared/protocol/messages.ts';
import { onceAborted, type StopSignals } from '../shared/stop-signals.ts';
import { RefusalLog } from '../shared/refusal-log.ts';
import { abortable } from '../shared/abort.ts';
import type { WrittenShards } from './checkpoint/shard-writer.ts';
import { createStepRunner, type StepRunner } from './compute/step-runner.ts';
import { ProgressCell } from './network/progress-cell.ts';
import type { Deal } from './network/network-messages.ts';
import { NetworkClient, type Command, type CoordinatorCommand } from './network/network-client.ts';
import { evaluateBatch } from './inference/evaluate-batch.ts';
import { checkSameModel, openEvaluator, type Evaluator } from './open-evaluator.ts';
import { checkSame, prepareWorker, type Prepared, type Welcome } from './prepare-worker.ts';
import { probePaths, type ProbeInit } from './probe-paths.ts';
import type { WorkerParts } from './worker-parts.ts';

export interface WorkerInit {
  readonly parts: WorkerParts;
  readonly clock: Clock;
  readonly log: Logger;
}

type CommandOf<Kind extends CoordinatorCommand['kind']> = Extract<CoordinatorCommand, { kind: Kind }>;

export class Worker {
  readonly #init: WorkerInit;
  readonly #progress = new ProgressCell();
  readonly #network: NetworkClient;
  #prepared: Prepared | undefined;
  /** In place of `#prepared` where it evaluates a model without a run. */
  #evaluator: Evaluator | undefined;
  /** From the last welcome. */
  #config: RunConfig | undefined;
  #ids = { epoch: 0, generation: 0 };
  /** Set from `formed` until the generation fails or is aborted. */
  #runner: StepRunner | undefined;
  /** The `form` of the current generation. */
  #form: CommandOf<'form'> | undefined;
  readonly #refusals: RefusalLog;
  /** Fires when it leaves before it was dismissed. */
  readonly #leaving = new AbortController();
  /** Close the created parts; the last one is closed first. */
  readonly #closers: (() => Promise<void>)[] = [];

  constructor(init: WorkerInit) {
    this.#init = init;
    const { parts, clock, log } = init;
    this.#refusals = new RefusalLog(log, clock);
    this.#network = new NetworkClient({
      start: (onEvent, onFailed) => parts.startNetwork(this.#progress.memory, onEvent, onFailed),
      clock,
      onRefused: (refusal) => this.#refusals.refused(refusal),
      onNoOutbox: ({ code, message }) => log.warn({ code, reason: message }, 'no outbox'),
      onWaiting: (reason) => log.info({ reason }, 'waiting for the coordinator'),
      onDeal: ({ step, lanes }) => {
        assertInvariant(this.#prepared !== undefined, 'a deal comes after `ready`');
        this.#prepared.feed.deal(step, lanes);
      },
    });
  }

  /**
   * Joins and works until the coordinator sends `finish`. Call it once.
   * @param stop gentle: drain; it leaves at once where it holds no state
   * @returns why it was dismissed
   * @throws CONNECTION_LOST, an engine's or the feed's failure, ABORTED where it leaves before it was dismissed
   */
  async run(stop: StopSignals): Promise<CommandOf<'finish'>> {
    let reason = 'the run is over';
    const signal = AbortSignal.any([stop.atOnce, this.#leaving.signal]);
    const ended = new AbortController();
    onceAborted(stop.gentle, (name) => void this.#drain(name, ended.signal));
    try {
      for (;;) {
        const next = await this.#network.nextCommand(signal);
        const { command } = next;
        if (command.kind === 'finish') {
          await abortable(this.#prepared?.writer.idle() ?? Promise.resolve(), signal, 'writing the last checkpoint');
          const { outcome, reason: why } = command;
          this.#init.log.info({ outcome, reason: why }, 'worker dismissed');
          return command;
        }
        await this.#execute(next, signal);
      }
    } catch (thrown) {
      const error = toTrainerError(thrown);
      reason = error.message;
      if (signal.aborted) {
        // For the coordinator this worker leaves; it has not failed.
        reason = `the worker was stopped (${String(signal.reason)})`;
        throw new TrainerError('ABORTED', reason, { cause: error });
      }
      this.#reportFailure(error);
      throw error;
    } finally {
      ended.abort();
      await this.#close(reason);
    }
  }

  /** Asks the coordinator for leave, and leaves without it after the grace. */
  async #drain(name: string, ended: AbortSignal): Promise<void> {
    const { clock, log } = this.#init;
    const step = this.#prepared?.state.step ?? null;
    if (step === null) {
      this.#leaving.abort(name);
      return;
    }
    const { drainGraceMs: graceMs } = this.#config!.cluster;
    log.info({ reason: name, step, graceMs }, 'worker drains');
    this.#network.post({ kind: 'drain', reason: name });
    try {
      await clock.sleep(graceMs, ended);
    } catch {
      return; // it was dismissed
    }
    this.#leaving.abort(`${name}, and no leave from the coordinator within ${graceMs} ms`);
  }

  async #close(reason: string): Promise<void> {
    for (const close of [() => this.#network.leave(reason), ...this.#closers.reverse()])
      try {
        await close();
      } catch (error) {
        this.#init.log.warn({ reason: toTrainerError(error).message }, 'not closed in order');
      }
    this.#refusals.close();
  }

  /** @param processSignal ends the process; the command's own signal aborts the command */
  async #execute({ command, signal }: Command, processSignal: AbortSignal): Promise<void> {
    const stop = AbortSignal.any([signal, processSignal]);
    switch (command.kind) {
      case 'welcome':
        await this.#welcome(command, processSignal);
        break;
      case 'welcome-evaluation':
        await this.#welcomeEvaluation(command);
        break;
      case 'form':
        if (!signal.aborted) await this.#prepareState(command, stop);
        break;
      case 'formed':
        if (!signal.aborted) this.#startGeneration(command);
        break;
      case 'deal':
        if (!signal.aborted) await this.#train(command, stop);
        break;
      case 'evaluate':
        if (!signal.aborted) await this.#evaluate(command, stop);
        break;
      case 'save':
        if (!signal.aborted) await this.#save(command, processSignal);
        break;
      case 'abort':
        await this.#dropWork();
        this.#answerAbort(command);
        break;
      case 'finish':
        break;
    }
  }

  /** The first welcome creates the parts; a later one is answered with the state that is held. */
  async #welcome(welcome: Welcome, processSignal: AbortSignal): Promise<void> {
    this.#ids = { epoch: welcome.epoch, generation: 0 };
    this.#config = checkConfig(welcome.config, 'the config from the coordinator');
    const until = AbortSignal.any([processSignal, this.#network.lost]);
    const mixture = this.#prepared === undefined ? { preparedFolder: welcome.preparedFolder } : {};
    const probe = welcome.probe && (await this.#probe({ ...welcome.probe, ...mixture }, until));
    if (this.#prepared === undefined) {
      const onOpened = (close: () => Promise<void>): void => void this.#closers.push(close);
      const [config, network] = [this.#config, this.#network];
      this.#prepared = await prepareWorker({ ...this.#init, welcome, config, network, onOpened, signal: until });
      this.#progress.advance('waiting', 0);
    } else {
      checkSame(this.#prepared.welcome, welcome);
      await this.#dropWork();
    }
    const { state, facts } = this.#prepared;
    const ready = { ...facts, ...(probe === undefined ? {} : { probe }) };
    this.#network.post({ kind: 'ready', epoch: this.#ids.epoch, held: state.held, ...ready });
  }

  /** The first one opens the model; a later one is answered at once. */
  async #welcomeEvaluation(welcome: CommandOf<'welcome-evaluation'>): Promise<void> {
    this.#ids = { epoch: welcome.epoch, generation: 0 };
    const onOpened = (close: () => Promise<void>): void => void this.#closers.push(close);
    this.#evaluator ??= await openEvaluator({ ...this.#init, welcome, onOpened });
    checkSameModel(this.#evaluator.welcome, welcome);
    this.#progress.advance('waiting', 0);
    this.#network.post({ kind: 'evaluation-ready', epoch: welcome.epoch, ...this.#evaluator.facts });
  }

  /** Without a run the engine is that of the evaluation; in a run the generation's, with the state that it trains. */
  async #evaluate({ epoch, generation, batch, work }: CommandOf<'evaluate'>, signal: AbortSignal): Promise<void> {
    const engine = this.#evaluator?.engine ?? this.#prepared?.engine;
    assertInvariant(engine !== undefined, 'a batch comes after `evaluation-ready`, or in a generation');
    const step = this.#prepared?.state.step ?? 0;
    const onProgress = (): void => this.#progress.advance('evaluate', step);
    onProgress();
    try {
      const result = await evaluateBatch(engine, { work, signal, onProgress });
      this.#network.post({ kind: 'evaluated', epoch, generation, batch, result });
    } catch (thrown) {
      const error = toErrorRecord(thrown);
      const { code, message: reason } = error;
      this.#init.log.warn({ code, reason, batch }, 'batch not evaluated');
      if (!signal.aborted)
        this.#network.post({ kind: 'evaluated', epoch, generation, batch, result: { kind: 'failed', error } });
    }
    this.#progress.advance('waiting', step);
  }

  /** A worker with a state joins even if its probe fails: the others can copy the state and save it. @throws what probePaths throws */
  async #probe(request: ProbeInit, signal: AbortSignal): Promise<ReadyMessage['probe']> {
    try {
      return await probePaths(request, this.#init.clock, signal);
    } catch (thrown) {
      const { code, message: reason } = toTrainerError(thrown);
      if (signal.aborted || this.#prepared?.state.step === undefined) throw thrown;
      this.#init.log.warn({ code, reason }, 'run folder not seen');
      return undefined;
    }
  }

  async #prepareState(form: CommandOf<'form'>, stop: AbortSignal): Promise<void> {
    assertInvariant(this.#prepared !== undefined, 'a generation is formed after `ready`');
    const { state, welcome } = this.#prepared;
    const { epoch, generation } = form;
    this.#ids = { epoch, generation };
    this.#form = form;
    this.#runner = undefined;
    try {
      const paramDigest = await state.prepareFor(form, welcome.runId, stop);
      const proof = paramDigest === undefined ? {} : { paramDigest };
      this.#progress.advance('waiting', state.step ?? 0);
      this.#network.post({ kind: 'state-in-place', generation, ...proof });
    } catch (error) {
      this.#leaveGeneration(toTrainerError(error), 'state not in place');
    }
  }

  #startGeneration(formed: CommandOf<'formed'>): void {
    const { engine, feed } = this.#prepared!;
    const { clock, log } = this.#init;
    const form = this.#form!;
    const parts = { engine, feed, reducer: this.#network, progress: this.#progress, clock };
    this.#runner = createStepRunner({ ...parts, config: this.#config!, form, formed });
    log.info({ ...this.#ids, rank: form.rank, worldSize: form.members.length }, 'generation formed');
  }

  async #train(deal: Deal, stop: AbortSignal): Promise<void> {
    const runner = this.#runner;
    if (runner === undefined) return; // an earlier step of this generation failed
    const { state } = this.#prepared!;
    const { epoch, generation, step } = deal;
    const ids = { epoch, generation, step };
    try {
      const outcome = await runner.run(deal, stop);
      if (outcome.kind === 'not-finite') {
        const { kind, reason, losses, isGradientFinite } = outcome;
        const isFinite = isGradientFinite === undefined ? {} : { isGradientFinite };
        this.#runner = undefined;
        this.#network.post({ kind, ...ids, reason, losses: [...losses], ...isFinite });
        return;
      }
      state.advance(step);
      const { lanes, ms } = outcome;
      const proof = deal.proveState ? { paramDigest: await state.parameterDigest() } : {};
      this.#network.post({ kind: 'report', ...ids, lanes, ms, ...proof });
    } catch (thrown) {
      if (!runner.isStateWhole) {
        state.invalidate();
        throw thrown;
      }
      this.#leaveGeneration(toTrainerError(thrown), 'step not finished');
    }
  }

  /** Ends this worker's part of the generation. The state stays, and the coordinator decides. */
  #leaveGeneration(error: TrainerError, what: string): void {
    this.#runner = undefined;
    this.#progress.advance('waiting', this.#prepared?.state.step ?? 0);
    const { code, message: reason } = error;
    this.#init.log.warn({ code, reason, ...this.#ids, what }, 'generation left');
    // The network thread has reported its own failures, and the coordinator knows of its aborts.
    if (error.code !== 'ABORTED' && error !== this.#network.generationError) this.#reportFailure(error);
  }

  /** @param ids epoch and generation of the failure @param more `unsavedStep` where it could not save */
  #reportFailure(error: TrainerError, { epoch, generation } = this.#ids, more: { unsavedStep?: number } = {}): void {
    this.#network.post({ kind: 'failed', epoch, generation, error: toErrorRecord(error), ...more });
  }

  /** Names the aborted generation: its `form` may still be queued. */
  #answerAbort({ epoch, generation }: CommandOf<'abort'>): void {
    this.#network.post({ kind: 'aborted', epoch, generation, step: this.#prepared?.state.step ?? null });
  }

  /** Drops the step and the checkpoint under way: no message about either follows. */
  async #dropWork(): Promise<void> {
    this.#runner = undefined;
    await this.#prepared?.feed.drop();
    await this.#prepared?.writer.callOff();
    this.#progress.advance('waiting', this.#prepared?.state.step ?? 0);
  }

  /** Copies the state now; a thread of its own writes it while training continues. */
  async #save(command: CommandOf<'save'>, signal: AbortSignal): Promise<void> {
    const { epoch, generation, step, stateStep, folder, writer, numWriters } = command;
    const held = this.#prepared?.state.step ?? -1;
    if (this.#prepared === undefined || held < stateStep || held > step) return; // the step was not reached
    const { maxShardBytes } = this.#config!.checkpoint;
    this.#progress.advance('save', step);
    const request = { folder, writer, numWriters, maxShardBytes };
    const { written } = await this.#prepared.writer.save(request, signal);
    this.#progress.advance('waiting', step);
    void this.#reportWritten(written, { epoch, generation, step });
  }

  async #reportWritten(
    written: Promise<WrittenShards>,
    ids: { epoch: number; generation: number; step: number },
  ): Promise<void> {
    try {
      const { files, paramDigest } = await written;
      this.#network.post({ kind: 'saved', ...ids, files: [...files], paramDigest });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      this.#init.log.warn({ code: error.code, reason: error.message, step: ids.step }, 'checkpoint not written');
      if (error.code !== 'ABORTED') this.#reportFailure(error, ids, { unsavedStep: ids.step });
    }
  }
}
