/**
 * A run: opens its folder, then trains one epoch after the other. An epoch that finds no worker with the committed state is followed by one
 * from an earlier step. The run folder, the address and the worker processes outlive the epochs; everything else is made anew for each.
 */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { ExtraFile } from '../shared/checkpoint/extra-file.ts';
import { tensorBytes } from '../shared/checkpoint/shard-plan.ts';
import { systemClock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import { createLogger, type Logger, type LogRecord } from '../shared/logger.ts';
import { onceAborted, type StopSignals } from '../shared/stop-signals.ts';
import { webSocketTransport } from '../shared/transport/websocket-transport.ts';
import { VERSION } from '../shared/version.ts';
import { createCheckpointStore, type CheckpointTensors } from './checkpoint/checkpoint-store.ts';
import { Coordinator } from './coordinator.ts';
import type { EpochEnding } from './end-run.ts';
import { RepeatedDivergence } from './generation/penalties.ts';
import type { WorkerHost } from './membership/worker-host.ts';
import { openRun, type OpenRun } from './resume/open-run.ts';
import {
  announceCoordinator,
  readAnnouncement,
  readOwnAnnouncement,
  findAnnouncedUrl,
} from './run-folder/announcement.ts';
import { FolderProbe } from './run-folder/folder-probe.ts';
import type { LockWait } from './run-folder/run-lock.ts';
import { isRunFolder, resolveResume, WORKERS_FOLDER } from './run-folder/run-folder.ts';
import type { RunSummaryView } from './run-summary.ts';
import type { ValidationSets } from './validation/validation-sets.ts';
import { createValidationStore } from './validation/write-results.ts';

export interface RunInit {
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  /** What is evaluated while the run trains; undefined: nothing. */
  readonly validation?: ValidationSets | undefined;
  readonly place: RunPlace;
  readonly checkpoint: CheckpointContent;
  /** The run's token; undefined: that of the coordinator before, or a new one. */
  readonly token: string | undefined;
  readonly workerHost: WorkerHost;
  readonly stop: StopSignals;
  /** Receives each record of the coordinator's log. */
  readonly onRecord?: (record: LogRecord) => void;
}

export interface RunPlace {
  /** Folder of a new run, or of one to continue; default `runs/<name>-<time>`. */
  readonly runDir?: string | undefined;
  /** A run folder or a checkpoint folder. */
  readonly resume?: string | undefined;
  /** Resume although the mixture has changed. */
  readonly allowMixtureChange: boolean;
}

/** The part of a checkpoint that does not come from the workers. */
export interface CheckpointContent {
  readonly tensors: CheckpointTensors;
  /** In each checkpoint. */
  readonly tokenizerFiles: readonly ExtraFile[];
}

const UNKNOWN_ADDRESS =
  "coordinator.json has no seal of this user's exmix ($EXMIX_HOME/secret): its address and token are not taken over";

export class Run {
  readonly folder: string;
  readonly log: Logger;
  readonly #init: RunInit;
  #opened: OpenRun;
  #coordinator: Coordinator | undefined;
  #address: { readonly token: string; readonly port?: number } | undefined;
  #areWorkersStarted = false;

  /** @throws what openRun throws: whatever is wrong with config, mixture or folder is known before a worker starts */
  static async open(init: RunInit): Promise<Run> {
    const { onRecord } = init;
    const terminal = createLogger(onRecord === undefined ? {} : { onRecord }); // the log belongs to the owner of the lock
    const opened = await openRun({ ...openingOf(init, terminal), ...(await placeOf(init.place)) });
    try {
      return new Run(init, opened);
    } catch (error) {
      await opened.close(true); // the log cannot be opened
      throw error;
    }
  }

  private constructor(init: RunInit, opened: OpenRun) {
    this.#init = init;
    this.#opened = opened;
    this.folder = opened.folder.folder;
    const file = opened.folder.log;
    this.log = createLogger({
      file,
      onFileFailure: (code) => this.log.warn({ file, code }, 'log file not written'),
      ...(init.onRecord === undefined ? {} : { onRecord: init.onRecord }),
    });
  }

  /** The last committed step, and that of the newest checkpoint (0: none). */
  get progress(): { readonly step: number; readonly savedStep: number } {
    return this.#coordinator?.progress ?? { step: this.#opened.start.step, savedStep: this.#opened.start.step };
  }

  /** @throws the failure that ended the run, after everything that could be saved was saved */
  async train(): Promise<RunSummaryView> {
    const divergences = new RepeatedDivergence();
    try {
      for (;;) {
        const ending = await this.#runEpoch();
        if (ending.kind === 'ended') return ending.summary;
        const { reason, resumeAt, divergence } = ending;
        const { furthestStep } = this.#opened.journal.state;
        const repeated = divergence === undefined ? undefined : divergences.add(furthestStep, divergence);
        if (repeated !== undefined) throw repeated;
        const heldStep = resumeAt.kind === 'held-step' ? resumeAt.step : null;
        this.log.warn({ reason, heldStep }, 'run goes back');
        await this.#opened.close();
        this.#opened = await openRun({ ...openingOf(this.#init, this.log), resume: this.folder, resumeAt });
      }
    } finally {
      await this.#init.workerHost.stop();
      await this.#opened.close(!this.#areWorkersStarted);
    }
  }

  async #runEpoch(): Promise<EpochEnding> {
    const { config, mixture, validation, checkpoint, workerHost, stop } = this.#init;
    const { folder, journal, ledger, diskSpace, notes, runId, epoch, start, before } = this.#opened;
    const { log } = this;
    log.info(
      {
        run: this.folder,
        version: VERSION,
        epoch,
        step: start.step,
        from: start.checkpoint?.path ?? config.init?.folder,
      },
      'run opened',
    );
    for (const note of notes) log.warn({ reason: note }, 'run folder');
    this.#address ??= await this.#findAddress();
    const { token } = this.#address;
    const signal = AbortSignal.any([stop.atOnce, folder.lock.lost]);
    const runtime = { clock: systemClock, log };
    const validating = validation && { sets: validation, store: createValidationStore(this.folder) };
    const checkpoints = createCheckpointStore({
      ...{ config, epoch, signal, ...checkpoint },
      folder: folder.checkpoints,
      mixtureHash: mixture.hash,
      tokenizerHash: mixture.tokenizer.hash,
      clock: systemClock,
    });
    const probe = await FolderProbe.create(folder.checkpoints);
    try {
      const stores = { runFolder: this.folder, journal, ledger, checkpoints, diskSpace, probe };
      const coordinator = new Coordinator({
        ...{ config, mixture, stores, runtime, token, workerHost },
        validation: validating,
        opening: { runId, epoch, start, before },
        transport: webSocketTransport,
      });
      this.#coordinator = coordinator;
      const listened = await this.#listen(coordinator, this.#address.port);
      this.#address = { token, port: Number(new URL(listened).port) };
      const url = await findAnnouncedUrl(listened, config.cluster.advertiseHost);
      await announceCoordinator(this.folder, { url, token, epoch });
      log.info({ url }, 'coordinator listens');
      onceAborted(stop.gentle, (reason) => coordinator.requestStop(reason));
      // An advertised address may be that of a gateway, which workers of this host need not reach.
      if (!coordinator.isFinished) await this.#startWorkers(await findAnnouncedUrl(listened), token);
      return await coordinator.run(signal);
    } finally {
      await probe.remove();
    }
  }

  /** Workers still dial the address of the coordinator before, and know its token. */
  async #findAddress(): Promise<{ token: string; port?: number }> {
    const { token } = this.#init;
    if (this.#opened.before === undefined) return { token: token ?? newToken() };
    // The token of the folder is a secret only if it is ours; a port is no secret.
    const before = await (token === undefined ? readOwnAnnouncement : readAnnouncement)(this.folder);
    if (before !== undefined) return { token: token ?? before.token, port: Number(new URL(before.url).port) };
    this.log.warn({ reason: UNKNOWN_ADDRESS }, 'workers of the coordinator before cannot come back');
    return { token: token ?? newToken() };
  }

  /** @param port where workers dial; undefined: that of the config @throws PORT_IN_USE */
  async #listen(coordinator: Coordinator, port: number | undefined): Promise<string> {
    const { listenPort } = this.#init.config.cluster;
    try {
      return await coordinator.listen(port ?? listenPort);
    } catch (error) {
      if (port === undefined || port === listenPort || toTrainerError(error).code !== 'PORT_IN_USE') throw error;
      this.log.warn({ reason: (error as Error).message }, 'workers of the coordinator before cannot come back');
      return coordinator.listen(listenPort);
    }
  }

  async #startWorkers(url: string, token: string): Promise<void> {
    if (this.#areWorkersStarted) return;
    this.#areWorkersStarted = true;
    const logFolder = join(this.folder, WORKERS_FOLDER);
    await mkdir(logFolder, { recursive: true });
    const progress = {
      numCommitted: (workerId: string) => this.#coordinator?.numCommitted(workerId) ?? 0,
      isDismissed: (workerId: string) => this.#coordinator?.isDismissed(workerId) ?? false,
    };
    await this.#init.workerHost.start({ url, token, logFolder, log: this.log, progress });
  }
}

function openingOf({ config, mixture, checkpoint, place, stop }: RunInit, log: Logger) {
  const { allowMixtureChange } = place;
  const requiredBytes = checkpointBytes(checkpoint.tensors) * (config.checkpoint.keepLast + 1);
  const onLockWait = (wait: LockWait): void => log.warn({ ...wait }, 'waiting for the run lock');
  const { atOnce: signal, gentle } = stop;
  return { config, mixture, clock: systemClock, signal, gentle, onLockWait, requiredBytes, allowMixtureChange };
}

/** The command that began a run also continues it. @throws CONFIG_INVALID for the folder of another run beside the run to resume */
async function placeOf({ runDir, resume }: RunPlace): Promise<{ runDir?: string; resume?: string }> {
  if (resume !== undefined && runDir !== undefined) {
    if ((await resolveResume(resume)).kind === 'run')
      throw new TrainerError(
        'CONFIG_INVALID',
        `--run-dir ${runDir}: a run continues in its own folder, ${resume}; leave --run-dir out, or resume one of its checkpoints into the new folder`,
      );
    return { resume, runDir };
  }
  if (resume !== undefined) return { resume };
  if (runDir === undefined) return {};
  return (await isRunFolder(runDir)) ? { resume: runDir } : { runDir };
}

function newToken(): string {
  return randomBytes(32).toString('base64url');
}

function checkpointBytes({ parameters, optimizerSlots }: CheckpointTensors): number {
  return [...parameters, ...optimizerSlots].reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
}
