/** Runs a coordinator for a person: prints log records and the summary, and turns signals into stops. */
import { isFinished } from '../coordinator/end-run.ts';
import { NO_LOCAL_WORKERS, type WorkerHost } from '../coordinator/membership/worker-host.ts';
import type { Run } from '../coordinator/run.ts';
import { isRunFolder } from '../coordinator/run-folder/run-folder.ts';
import type { RunSummaryView } from '../coordinator/run-summary.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import { standardError, standardOutput } from '../shared/standard-streams.ts';
import { checkEngineName } from '../worker/engine-choice/choose-engine.ts';
import { ConsoleReporter } from './console-reporter.ts';
import { ensurePrepared } from './ensure-prepared.ts';
import { EXIT_INTERRUPTED, EXIT_RUN_FAILED } from './exit-codes.ts';
import { describeSaved, formatRunSummary } from './format-run-summary.ts';
import { resolveInit } from './init/resolve-init.ts';
import type { ResolvedCompute } from './launch/resolve-compute.ts';
import { openPreparedRun } from './open-prepared-run.ts';
import { ProcessSignals } from './process-signals.ts';
import type { RunArguments } from './run-options.ts';
import { shellCommand } from './shell-command.ts';
import { givenToken } from './token.ts';

export interface RunCoordinatorInit {
  readonly args: Pick<RunArguments, 'run-dir' | 'resume' | 'allow-mixture-change'>;
  /** The stored config that names the mixture, where the user named none (`storedConfigOf`). */
  readonly mixtureNamedBy: string | undefined;
  readonly config: RunConfig;
  readonly tokenFile?: string | undefined;
  /** How the engine was chosen; given if the workers run on this host. */
  readonly resolved?: ResolvedCompute;
  readonly workerHost?: WorkerHost;
}

export interface EndedRun {
  readonly summary: RunSummaryView;
  /** The last step is committed and saved. */
  readonly isDone: boolean;
}

/** Sets the exit status of a run that has not reached its last step. @throws the failure that ended the run, with advice */
export async function runCoordinator(init: RunCoordinatorInit): Promise<EndedRun> {
  const { args, mixtureNamedBy, resolved, workerHost = NO_LOCAL_WORKERS } = init;
  const signals = new ProcessSignals({ canStopGently: false });
  const reporter = new ConsoleReporter(standardOutput);
  // The workers of `exmix coordinator` are started elsewhere.
  const command = (words: readonly string[]): string =>
    shellCommand([workerHost === NO_LOCAL_WORKERS ? 'coordinator' : 'train', ...words]);
  try {
    checkEngineName(init.config.compute.engine); // reports a wrong name once, not in every worker
    const token = await givenToken(init.tokenFile);
    const { 'run-dir': runDir, resume, 'allow-mixture-change': allowMixtureChange } = args;
    const onLine = (text: string): void => reporter.line(text);
    const asked = { config: init.config, mixtureNamedBy, place: { runDir, resume }, onLine, signal: signals.atOnce };
    const config = await resolveInit(asked);
    const prepared = await ensurePrepared(config, mixtureNamedBy, onLine, signals.atOnce);
    signals.canStopGently = true;
    const run = await openPreparedRun({
      ...{ prepared, resolved, token, workerHost, stop: signals },
      place: { runDir, resume, allowMixtureChange },
      onRecord: (record) => reporter.record(record),
    });
    for (const stream of [standardOutput, standardError])
      stream.onFailure((lost) => run.log.warn({ ...lost }, 'console lost'));
    const summary = await run.train().catch(async (error: unknown) => {
      throw (await isRunFolder(run.folder)) ? withAdvice(error, run, command) : error;
    });
    reporter.end();
    const { step, savedStep } = summary;
    const { steps } = config.training;
    const isDone = isFinished(summary, steps);
    const interrupted = isDone ? undefined : String(signals.gentle.reason);
    standardOutput.write(formatRunSummary(summary, { runFolder: run.folder, steps, interrupted, command }));
    if (!isDone) process.exitCode = step === savedStep ? EXIT_INTERRUPTED : EXIT_RUN_FAILED;
    return { summary, isDone };
  } finally {
    signals.dispose();
    reporter.end();
  }
}

/** Adds what is saved and the command that resumes the failed run. An end at once that leaves committed steps unsaved is NOT_SAVED. */
function withAdvice(
  error: unknown,
  { folder, progress: { step, savedStep } }: Run,
  command: (words: readonly string[]) => string,
): unknown {
  if (!(error instanceof TrainerError)) return error;
  const code = error.code === 'ABORTED' && step !== savedStep ? 'NOT_SAVED' : error.code;
  const lines = [
    error.message,
    `Run folder: ${folder}; ${describeSaved(step, savedStep)}`,
    `Resume with: ${command(['--resume', folder])}`,
  ];
  return new TrainerError(code, lines.join('\n'), { cause: error });
}
