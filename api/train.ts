/** Training from a program: what `exmix train` does, without a terminal, process signals or an exit status. */
import { ensurePrepared } from '../cli/ensure-prepared.ts';
import { fillModel } from '../cli/init/fill-model.ts';
import { resolveInit } from '../cli/init/resolve-init.ts';
import { createLocalWorkers, resolveOnThisHost } from '../cli/launch/create-local-workers.ts';
import { openPreparedRun } from '../cli/open-prepared-run.ts';
import { resolveConfig, storedConfigOf } from '../cli/run-options.ts';
import { isFinished } from '../coordinator/end-run.ts';
import type { RunSummaryView } from '../coordinator/run-summary.ts';
import { checkConfig, overrideTree, type ConfigOverride } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { TrainerError } from '../shared/errors.ts';
import type { LogRecord } from '../shared/logger.ts';
import type { RunSettings } from './run-settings.ts';

export interface TrainOptions {
  /** Name of a preset that ships with exmix: `demo`, `ext5-small`, `ext5-base`, `ext5-large`. */
  readonly preset?: string;
  /** A config file (YAML) in place of a preset. */
  readonly config?: string;
  /** On top of preset, file or resumed run; by itself where there is none of them. Paths are relative to the working folder. */
  readonly settings?: RunSettings;
  /** Worker processes on this host. Default: 2. The bits do not depend on it. */
  readonly workers?: number;
  /** Folder of a new run, or of one to continue. Default: `runs/<name>-<time>`. */
  readonly runDir?: string;
  /** A run folder to continue, or a checkpoint folder to start from. */
  readonly resume?: string;
  /** Resume although the mixture has changed. */
  readonly allowMixtureChange?: boolean;
  /** Run the TypeScript of a mixture that only the resumed checkpoint or run folder names. Default: MODULE_NOT_TRUSTED, unless known here. */
  readonly trustModules?: boolean;
  /** Stops the run in order: it finishes the dealt steps, saves a checkpoint, and `train` returns. While the mixture is prepared: ABORTED. */
  readonly signal?: AbortSignal;
  /** Receives each record of the run's log, `step committed` among them (docs/logs.md). */
  readonly onRecord?: (record: LogRecord) => void;
  /** Receives a line for each task that was prepared, and for a source that does not answer. */
  readonly onLine?: (line: string) => void;
}

export interface TrainSummary extends RunSummaryView {
  readonly runDir: string;
  /** Whether `signal` stopped the run before its last step. */
  readonly isInterrupted: boolean;
}

/**
 * Trains on this host: prepares the mixture where needed, starts worker processes, returns when the last step is saved.
 * @throws TrainerError, by the codes of docs/protocol.md: CONFIG_INVALID and NAME_UNKNOWN for what was asked; what ended the run
 */
export async function train(options: TrainOptions): Promise<TrainSummary> {
  const { workers = 2, runDir, resume, allowMixtureChange = false, onRecord, onLine = () => undefined } = options;
  const { signal = new AbortController().signal } = options;
  if (!Number.isInteger(workers) || workers < 1)
    throw new TrainerError('CONFIG_INVALID', `workers: expected a whole number of at least 1, got ${workers}`);
  const { config: asked, mixtureNamedBy } = await configOf(options, workers);
  const { config: onThisHost, resolved } = await resolveOnThisHost(asked, workers);
  const place = { runDir, resume };
  const config = await resolveInit({ config: onThisHost, mixtureNamedBy, place, onLine, signal });
  const prepared = await ensurePrepared(config, mixtureNamedBy, onLine, signal);
  const run = await openPreparedRun({
    ...{ prepared, resolved, token: undefined },
    place: { ...place, allowMixtureChange },
    workerHost: createLocalWorkers(workers),
    stop: { gentle: signal, atOnce: new AbortController().signal },
    ...(onRecord === undefined ? {} : { onRecord }),
  });
  const summary = await run.train();
  return {
    ...summary,
    runDir: run.folder,
    isInterrupted: signal.aborted && !isFinished(summary, config.training.steps),
  };
}

interface AskedConfig {
  readonly config: RunConfig;
  readonly mixtureNamedBy: string | undefined;
}

async function configOf(options: TrainOptions, workers: number): Promise<AskedConfig> {
  const { preset, config, resume, trustModules = false, settings = {} } = options;
  if (preset !== undefined && config !== undefined)
    throw new TrainerError('CONFIG_INVALID', 'preset and config: expected one of them');
  const startWorkers = { path: ['cluster', 'startWorkers'], value: workers, origin: 'workers' };
  const overrides = [...overridesOf(settings), startWorkers];
  if (preset === undefined && config === undefined && resume === undefined)
    return {
      config: checkConfig(await fillModel(overrideTree({}, overrides)), 'settings'),
      mixtureNamedBy: undefined,
    };
  const args = { preset, config, resume, set: [], 'allow-mixture-change': false, 'trust-modules': trustModules };
  return { config: await resolveConfig(args, overrides), mixtureNamedBy: await storedConfigOf(args, overrides) };
}

/** The leaves of the tree; a list or a value is one. */
function overridesOf(tree: object, path: readonly string[] = []): ConfigOverride[] {
  return Object.entries(tree).flatMap(([name, value]: [string, unknown]) => {
    const place = [...path, name];
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return overridesOf(value, place);
    return value === undefined ? [] : [{ path: place, value, origin: `settings.${place.join('.')}` }];
  });
}
