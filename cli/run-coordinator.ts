/** Runs a coordinator for a person: prints log records and the summary, and turns signals into stops. */
import { NO_LOCAL_WORKERS, type WorkerHost } from '../coordinator/membership/worker-host.ts';
import type { StopSignals } from '../coordinator/run.ts';
import { isRunFolder } from '../coordinator/run-folder/run-folder.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { standardError, standardOutput } from '../shared/standard-streams.ts';
import { checkEngineName } from '../worker/engine-choice/choose-engine.ts';
import { ConsoleReporter } from './console-reporter.ts';
import { ensurePrepared } from './ensure-prepared.ts';
import { EXIT_INTERRUPTED } from './exit-codes.ts';
import { formatRunSummary } from './format-run-summary.ts';
import type { ResolvedCompute } from './launch/resolve-compute.ts';
import { openPreparedRun } from './open-prepared-run.ts';
import type { RunArguments } from './run-options.ts';
import { givenToken } from './token.ts';

export interface RunCoordinatorInit {
  readonly args: Pick<RunArguments, 'run-dir' | 'resume' | 'allow-mixture-change'>;
  readonly config: RunConfig;
  readonly tokenFile?: string | undefined;
  /** How the engine was chosen; given if the workers run on this host. */
  readonly resolved?: ResolvedCompute;
  readonly workerHost?: WorkerHost;
}

export async function runCoordinator(init: RunCoordinatorInit): Promise<void> {
  const { args, config, resolved, workerHost = NO_LOCAL_WORKERS } = init;
  checkEngineName(config.compute.engine); // reports a wrong name once, not in every worker
  const token = await givenToken(init.tokenFile);
  const reporter = new ConsoleReporter(standardOutput);
  const signals = new TerminalSignals();
  try {
    const prepared = await ensurePrepared(config, (text) => reporter.line(text), signals.atOnce);
    const { 'run-dir': runDir, resume, 'allow-mixture-change': allowMixtureChange } = args;
    signals.canStopGently = true;
    const run = await openPreparedRun({
      ...{ config, prepared, resolved, token, workerHost, stop: signals },
      place: { runDir, resume, allowMixtureChange },
      onRecord: (record) => reporter.record(record),
    });
    for (const stream of [standardOutput, standardError])
      stream.onFailure((lost) => run.log.warn({ ...lost }, 'console lost'));
    const summary = await run.train().catch(async (error: unknown) => {
      throw (await isRunFolder(run.folder)) ? withAdvice(error, run.folder) : error;
    });
    reporter.end();
    const interrupted = signals.first;
    standardOutput.write(
      formatRunSummary(summary, { runFolder: run.folder, steps: config.training.steps, interrupted }),
    );
    if (interrupted !== undefined) process.exitCode = EXIT_INTERRUPTED;
  } finally {
    signals.dispose();
    reporter.end();
  }
}

/** Adds the command that resumes the failed run. */
function withAdvice(error: unknown, folder: string): unknown {
  if (!(error instanceof TrainerError)) return error;
  const advice = `Run folder: ${folder}\nResume with: exmix train --resume ${folder}`;
  return new TrainerError(error.code, `${error.message}\n${advice}`, { cause: error });
}

/** The first SIGINT or SIGTERM after the run was opened stops it gently. An earlier one, or a second one, ends it at once. */
class TerminalSignals implements StopSignals {
  canStopGently = false;
  readonly #gentle = new AbortController();
  readonly #atOnce = new AbortController();

  constructor() {
    process.on('SIGINT', this.#onSignal).on('SIGTERM', this.#onSignal);
  }

  get gentle(): AbortSignal {
    return this.#gentle.signal;
  }

  get atOnce(): AbortSignal {
    return this.#atOnce.signal;
  }

  /** Name of the signal that stopped the run gently. */
  get first(): string | undefined {
    return this.gentle.aborted ? String(this.gentle.reason) : undefined;
  }

  dispose(): void {
    process.off('SIGINT', this.#onSignal).off('SIGTERM', this.#onSignal);
  }

  readonly #onSignal = (name: string): void => {
    if (this.canStopGently && !this.gentle.aborted) this.#gentle.abort(name);
    else this.#atOnce.abort(new TrainerError('ABORTED', `${name}: ended at once`));
  };
}
