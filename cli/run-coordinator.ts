/**
 * A run from its config to its summary: prepared mixture, run folder, journal, coordinator, and the workers if this process
 * starts them. Signals: the first SIGINT or SIGTERM finishes the step, saves and ends; a second one ends at once.
 */
import { join } from 'node:path';
import { mkdir, writeFile } from 'node:fs/promises';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { createPublisher, type CheckpointTensors, type PublisherInit } from '../coordinator/publisher.ts';
import { openRun, type OpenRun } from '../coordinator/open-run.ts';
import { Coordinator } from '../coordinator/coordinator.ts';
import { systemClock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { createLogger, type Logger } from '../shared/logger.ts';
import { webSocketTransport } from '../shared/transport/websocket-transport.ts';
import { tensorBytes } from '../shared/checkpoint/shard-plan.ts';
import { checkEngineName } from '../worker/engine/choose-engine.ts';
import { optimizerSlots } from '../worker/model/optimizer-slots.ts';
import { parameterSpecs } from '../worker/model/parameters.ts';
import { VERSION } from '../shared/version.ts';
import { ConsoleReporter } from './console-reporter.ts';
import { EXIT_INTERRUPTED } from './exit-codes.ts';
import { ensurePrepared } from './ensure-prepared.ts';
import { formatRunSummary } from './format-run-summary.ts';
import type { SettledCompute } from './launch/settle-compute.ts';
import { readOrMakeToken } from './token.ts';
import type { RunArguments } from './run-options.ts';

export interface WorkerStart {
  readonly url: string;
  readonly token: string;
  /** For what the workers print. */
  readonly logFolder: string;
  readonly log: Logger;
  readonly onFailed: (reason: string) => void;
}

export interface RunCoordinatorInit {
  readonly args: Pick<RunArguments, 'run-dir' | 'resume' | 'allow-mixture-change'>;
  readonly config: RunConfig;
  readonly tokenFile?: string;
  /** How the engine was chosen, where the workers are on this host. */
  readonly settled?: SettledCompute;
  /** Starts workers once the coordinator listens; left out where they come by themselves. */
  readonly startWorkers?: (start: WorkerStart) => { stop(): Promise<void> };
}

export async function runCoordinator({
  args,
  config,
  tokenFile,
  settled,
  startWorkers,
}: RunCoordinatorInit): Promise<void> {
  checkEngineName(config.compute.engine); // a wrong name is told now, not by every worker
  const reporter = new ConsoleReporter(process.stdout);
  const token = await readOrMakeToken(tokenFile);
  const interruption = listenForSignals();
  const { mixture, tokenizerFiles } = await ensurePrepared(config, reporter, interruption.signal);
  const parameters = parameterSpecs(config.model);
  const tensors = { parameters, optimizerSlots: optimizerSlots(parameters) };
  const run = await openRun({
    config,
    mixture,
    clock: systemClock,
    signal: interruption.signal,
    requiredBytes: requiredBytes(config, tensors),
    allowMixtureChange: args['allow-mixture-change'],
    ...(args['run-dir'] === undefined ? {} : { runDir: args['run-dir'] }),
    ...(args.resume === undefined ? {} : { resume: args.resume }),
  });
  const log = createLogger({ file: run.folder.log, onRecord: (record) => reporter.record(record) });
  try {
    if (settled !== undefined) {
      log.info({ engine: config.compute.engine, reason: settled.reason }, 'engine chosen');
      for (const reason of settled.notes) log.warn({ reason }, 'engine not as it could be');
    }
    await runToEnd({
      run,
      config,
      mixture,
      publisher: { tensors, tokenizerFiles },
      token,
      log,
      reporter,
      interruption,
      ...(startWorkers === undefined ? {} : { startWorkers }),
    });
  } finally {
    interruption.dispose();
    reporter.end();
    await run.close();
  }
}

interface Running extends Pick<RunCoordinatorInit, 'config' | 'startWorkers'> {
  readonly run: OpenRun;
  readonly mixture: PreparedMixture;
  readonly publisher: Pick<PublisherInit, 'tensors' | 'tokenizerFiles'>;
  readonly token: string;
  readonly log: Logger;
  readonly reporter: ConsoleReporter;
  readonly interruption: Interruption;
}

async function runToEnd({
  run,
  config,
  mixture,
  publisher,
  token,
  log,
  reporter,
  interruption,
  startWorkers,
}: Running): Promise<void> {
  const { folder, journal, ledger, room, epoch, start } = run;
  log.info(
    { run: folder.folder, version: VERSION, epoch, step: start.step, from: start.checkpoint?.path },
    'run opened',
  );
  for (const note of run.notes) log.warn({ reason: note }, 'run folder');
  const signal = AbortSignal.any([interruption.signal, folder.lock.lost]);
  const coordinator = new Coordinator({
    config,
    epoch,
    start,
    mixture,
    checkpointsFolder: folder.checkpoints,
    journal,
    ledger,
    room,
    token,
    transport: webSocketTransport,
    clock: systemClock,
    log,
    publish: createPublisher({
      ...publisher,
      config,
      mixtureHash: mixture.hash,
      tokenizerHash: mixture.tokenizer.hash,
      epoch,
      clock: systemClock,
      signal,
    }),
  });
  const url = await coordinator.listen();
  await announce(folder.folder, { url, token, pid: process.pid, epoch });
  log.info({ url }, 'coordinator listens');
  const logFolder = join(folder.folder, 'workers');
  await mkdir(logFolder, { recursive: true });
  interruption.onFirst((signal) => coordinator.requestStop(signal));
  const workers = startWorkers?.({
    url,
    token,
    logFolder,
    log,
    onFailed: (reason) => coordinator.workerFailed(reason),
  });
  try {
    const summary = await coordinator.run(signal);
    reporter.end();
    process.stdout.write(
      formatRunSummary(summary, {
        runFolder: folder.folder,
        steps: config.training.steps,
        interrupted: interruption.first,
      }),
    );
    if (interruption.first !== undefined) process.exitCode = EXIT_INTERRUPTED;
  } catch (error) {
    if (!(error instanceof TrainerError)) throw error;
    throw new TrainerError(
      error.code,
      `${error.message}\nRun folder: ${folder.folder}\nGo on with: exmix train --resume ${folder.folder}`,
      { cause: error },
    );
  } finally {
    await workers?.stop();
  }
}

/** How a worker or `exmix status` finds this coordinator; only its owner may read the token. */
async function announce(
  runFolder: string,
  facts: { url: string; token: string; pid: number; epoch: number },
): Promise<void> {
  await writeFile(join(runFolder, 'coordinator.json'), `${JSON.stringify(facts, undefined, 2)}\n`, { mode: 0o600 });
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
    },
    dispose: () => process.off('SIGINT', onSignal).off('SIGTERM', onSignal),
  };
}
