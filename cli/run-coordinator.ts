/**
 * A run from its config to its summary: prepared mixture, run folder, journal, coordinator, and the workers if this process
 * starts them. Signals: the first SIGINT or SIGTERM finishes the step, saves and ends; a second one ends at once.
 */
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import {
  createCheckpointStore,
  type CheckpointStoreInit,
  type CheckpointTensors,
} from '../coordinator/checkpoint/checkpoint-store.ts';
import { openRun, type OpenRun } from '../coordinator/resume/open-run.ts';
import { Coordinator } from '../coordinator/coordinator.ts';
import type { EpochEnding } from '../coordinator/end-run.ts';
import { RepeatedDivergence } from '../coordinator/generation/penalties.ts';
import { isRunFolder } from '../coordinator/run-folder/run-folder.ts';
import { systemClock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { replaceFile } from '../shared/atomic-file.ts';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import { createLogger, type Logger } from '../shared/logger.ts';
import { webSocketTransport } from '../shared/transport/websocket-transport.ts';
import { tensorBytes } from '../shared/checkpoint/shard-plan.ts';
import { checkEngineName } from '../worker/engine-choice/choose-engine.ts';
import { optimizerSlots } from '../worker/model/optimizer-slots.ts';
import { parameterSpecs } from '../worker/model/parameters.ts';
import { VERSION } from '../shared/version.ts';
import { ConsoleReporter } from './console-reporter.ts';
import { EXIT_INTERRUPTED } from './exit-codes.ts';
import { ensurePrepared } from './ensure-prepared.ts';
import { formatRunSummary } from './format-run-summary.ts';
import type { SettledCompute } from './launch/settle-compute.ts';
import { hasToken, readOrMakeToken } from './token.ts';
import { findCoordinator } from './coordinator-client.ts';
import type { RunArguments } from './run-options.ts';

export interface WorkerStart {
  readonly url: string;
  readonly token: string;
  /** For what the workers print. */
  readonly logFolder: string;
  readonly log: Logger;
  /** Committed steps that a worker took part in. */
  readonly numCommitted: (workerId: string) => number;
  /** The run is over for this worker. */
  readonly isDismissed: (workerId: string) => boolean;
  /** A process of a worker has ended. */
  readonly onEnded: (workerId: string, pid: number) => void;
  /** A worker ended and is not started again. */
  readonly onGivenUp: (reason: string) => void;
}

export interface StartedWorkers {
  stop(): Promise<void>;
  /** Ends a worker that hangs, if it runs here; it is started again. */
  kill(workerId: string): void;
}

export interface RunCoordinatorInit {
  readonly args: Pick<RunArguments, 'run-dir' | 'resume' | 'allow-mixture-change'>;
  readonly config: RunConfig;
  readonly tokenFile?: string;
  /** How the engine was chosen, where the workers are on this host. */
  readonly settled?: SettledCompute;
  /** Starts workers once the coordinator listens; left out where they come by themselves. */
  readonly startWorkers?: (start: WorkerStart) => Promise<StartedWorkers>;
}

export async function runCoordinator(init: RunCoordinatorInit): Promise<void> {
  const { args, config, tokenFile, settled } = init;
  checkEngineName(config.compute.engine); // a wrong name is told now, not by every worker
  const reporter = new ConsoleReporter(process.stdout);
  const interruption = listenForSignals();
  const { mixture, tokenizerFiles } = await ensurePrepared(config, reporter, interruption.signal);
  const parameters = parameterSpecs(config.model);
  const tensors = { parameters, optimizerSlots: optimizerSlots(parameters) };
  const opening = {
    config,
    mixture,
    clock: systemClock,
    signal: interruption.signal,
    requiredBytes: requiredBytes(config, tensors),
    allowMixtureChange: args['allow-mixture-change'],
  };
  let run = await openRun({ ...opening, ...(await placeOfRun(args)) });
  const { folder } = run.folder;
  const log = createLogger({ file: run.folder.log, onRecord: (record) => reporter.record(record) });
  const repeated = new RepeatedDivergence();
  let session: Session | undefined;
  try {
    if (settled !== undefined) {
      log.info({ engine: config.compute.engine, reason: settled.reason }, 'engine chosen');
      for (const reason of settled.notes) log.warn({ reason }, 'engine not as it could be');
    }
    session = new Session({
      ...init,
      folder,
      log,
      address: await addressOf(folder, tokenFile, run.before !== undefined),
    });
    for (;;) {
      const ending = await session.runEpoch(run, { mixture, tensors, tokenizerFiles }, interruption);
      reporter.end();
      if (ending.kind === 'ended') {
        const outcome = { runFolder: folder, steps: config.training.steps, interrupted: interruption.first };
        process.stdout.write(formatRunSummary(ending.summary, outcome));
        if (interruption.first !== undefined) process.exitCode = EXIT_INTERRUPTED;
        return;
      }
      const { reason, heldStep = null, divergence } = ending;
      const last = divergence === undefined ? undefined : repeated.add(run.journal.state.furthestStep, divergence);
      if (last !== undefined) throw last;
      log.warn({ reason, heldStep }, 'run goes back');
      await run.close();
      run = await openRun({ ...opening, goOnAt: heldStep ?? 'checkpoint', resume: folder });
    }
  } catch (error) {
    if (!(error instanceof TrainerError)) throw error;
    const advice = `Run folder: ${folder}\nGo on with: exmix train --resume ${folder}`;
    throw new TrainerError(error.code, `${error.message}\n${advice}`, { cause: error });
  } finally {
    await session?.stop();
    interruption.dispose();
    reporter.end();
    await run.close();
  }
}

/** A run folder that is there already is gone on with: the command that began a run also continues it. */
async function placeOfRun(args: RunCoordinatorInit['args']): Promise<{ runDir?: string; resume?: string }> {
  const { 'run-dir': runDir, resume } = args;
  if (resume !== undefined) return { resume, ...(runDir === undefined ? {} : { runDir }) };
  if (runDir === undefined) return {};
  return (await isRunFolder(runDir)) ? { resume: runDir } : { runDir };
}

interface SessionInit extends RunCoordinatorInit {
  readonly folder: string;
  readonly log: Logger;
  readonly address: CoordinatorAddress;
}

/** What outlives the epochs of one process: its address, and the workers it has started. */
class Session {
  readonly #init: SessionInit;
  #port: number | undefined;
  #workers: StartedWorkers | undefined;
  #coordinator: Coordinator | undefined;

  constructor(init: SessionInit) {
    this.#init = init;
    this.#port = init.address.port;
  }

  async runEpoch(
    run: OpenRun,
    {
      mixture,
      tensors,
      tokenizerFiles,
    }: { mixture: PreparedMixture } & Pick<CheckpointStoreInit, 'tensors' | 'tokenizerFiles'>,
    interruption: Interruption,
  ): Promise<EpochEnding> {
    const { log, folder, address } = this.#init;
    const { journal, ledger, room, runId, epoch, start, before } = run;
    log.info({ run: folder, version: VERSION, epoch, step: start.step, from: start.checkpoint?.path }, 'run opened');
    for (const note of run.notes) log.warn({ reason: note }, 'run folder');
    const signal = AbortSignal.any([interruption.signal, run.folder.lock.lost]);
    const { config } = this.#init;
    const coordinator = new Coordinator({
      ...{ config, runId, epoch, start, before, mixture, journal, ledger, room, log },
      runFolder: folder,
      token: address.token,
      transport: webSocketTransport,
      clock: systemClock,
      onHung: (workerId) => this.#workers?.kill(workerId),
      checkpoints: createCheckpointStore({
        ...{ config, epoch, signal, tensors, tokenizerFiles },
        folder: run.folder.checkpoints,
        mixtureHash: mixture.hash,
        tokenizerHash: mixture.tokenizer.hash,
        clock: systemClock,
      }),
    });
    this.#coordinator = coordinator;
    const url = await this.#listen(coordinator);
    this.#port = Number(new URL(url).port);
    await announce(folder, { url, token: address.token, pid: process.pid, epoch });
    log.info({ url }, 'coordinator listens');
    interruption.onFirst((name) => coordinator.requestStop(name));
    this.#workers ??= await this.#startWorkers(url);
    return coordinator.run(signal);
  }

  async stop(): Promise<void> {
    await this.#workers?.stop();
  }

  /** Later epochs, and those after a coordinator that died, listen where the workers dial. @throws PORT_IN_USE */
  async #listen(coordinator: Coordinator): Promise<string> {
    const { log, config } = this.#init;
    const { listenPort } = config.cluster;
    try {
      return await coordinator.listen(this.#port ?? listenPort);
    } catch (error) {
      if (this.#port === undefined || this.#port === listenPort || toTrainerError(error).code !== 'PORT_IN_USE')
        throw error;
      log.warn({ reason: (error as Error).message }, 'workers of the coordinator before cannot come back');
      return coordinator.listen(listenPort);
    }
  }

  async #startWorkers(url: string): Promise<StartedWorkers | undefined> {
    const { startWorkers, folder, log, address } = this.#init;
    if (startWorkers === undefined) return undefined;
    const logFolder = join(folder, 'workers');
    await mkdir(logFolder, { recursive: true });
    return startWorkers({
      ...{ url, logFolder, log },
      token: address.token,
      numCommitted: (workerId) => this.#coordinator?.commitsOf(workerId) ?? 0,
      isDismissed: (workerId) => this.#coordinator?.isOverFor(workerId) ?? false,
      onEnded: (workerId, pid) => this.#coordinator?.localProcesses.ended(workerId, pid),
      onGivenUp: (reason) => this.#coordinator?.localProcesses.givenUp(reason),
    });
  }
}

interface CoordinatorAddress {
  readonly token: string;
  readonly port?: number;
}

/** Where workers will look: the address of the coordinator that died, where they still dial it; else a new token. */
async function addressOf(folder: string, tokenFile: string | undefined, goesOn: boolean): Promise<CoordinatorAddress> {
  const token = await readOrMakeToken(tokenFile);
  const known = goesOn ? await findCoordinator(folder) : undefined;
  if (known === undefined) return { token };
  return { token: (await hasToken(tokenFile)) ? token : known.token, port: Number(new URL(known.url).port) };
}

/** How a worker or `exmix status` finds this coordinator; only its owner may read the token. */
async function announce(
  runFolder: string,
  facts: { url: string; token: string; pid: number; epoch: number },
): Promise<void> {
  await replaceFile(join(runFolder, 'coordinator.json'), `${JSON.stringify(facts, undefined, 2)}\n`, 0o600);
}

/** What retention lets stand at the same time, and the one being written. */
function requiredBytes({ checkpoint }: RunConfig, { parameters, optimizerSlots }: CheckpointTensors): number {
  const each = [...parameters, ...optimizerSlots].reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  return each * (checkpoint.keepLast + 1);
}

interface Interruption {
  /** Fires at the second signal. */
  readonly signal: AbortSignal;
  readonly first: string | undefined;
  onFirst(handler: (signal: string) => void): void;
  dispose(): void;
}

function listenForSignals(): Interruption {
  const controller = new AbortController();
  let first: string | undefined;
  let handler: ((signal: string) => void) | undefined;
  const onSignal = (signal: string): void => {
    if (first === undefined && handler !== undefined) {
      first = signal;
      handler(signal);
    } else controller.abort(new TrainerError('ABORTED', `${signal}: ended at once`));
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    get first() {
      return first;
    },
    onFirst: (given) => {
      handler = given;
      if (first !== undefined) given(first);
    },
    dispose: () => process.off('SIGINT', onSignal).off('SIGTERM', onSignal),
  };
}
