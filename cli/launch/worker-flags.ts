/** Flags of a command that has batches computed by workers, and what they mean on this host. */
import type { Argv } from 'yargs';
import { NO_LOCAL_WORKERS, type WorkerHost } from '../../coordinator/membership/worker-host.ts';
import { checkEvaluationConfig, type EvaluationConfig } from '../../shared/config/evaluation-config.ts';
import { TrainerError } from '../../shared/errors.ts';
import { checkEngineName, ENGINE_NAMES } from '../../worker/engine-choice/choose-engine.ts';
import { givenToken } from '../token.ts';
import { createLocalWorkers, resolveOnThisHost } from './create-local-workers.ts';

/** Workers whose coordinator is gone dial for so long, ms: the same command may be started again. */
const COORDINATOR_GRACE_MS = 60_000;

export interface WorkerFlags {
  engine: string;
  device: 'auto' | 'cpu' | 'gpu';
  threads: number;
  workers: number;
  'batch-tokens': number;
  listen?: string | undefined;
  advertise?: string | undefined;
  port?: number | undefined;
  'token-file'?: string | undefined;
}

export function withWorkerFlags<T>(parser: Argv<T>) {
  return parser
    .option('engine', { choices: ENGINE_NAMES, default: 'auto', describe: 'Engine' })
    .option('device', { choices: ['auto', 'cpu', 'gpu'] as const, default: 'auto' as const, describe: 'Device' })
    .option('threads', { type: 'number', default: 1, describe: 'CPU threads of the native engine; 0: all cores' })
    .option('workers', { type: 'number', default: 1, describe: 'Worker processes of this host; 0: only others' })
    .option('batch-tokens', { type: 'number', default: 8_192, describe: 'Most tokens that are computed together' })
    .option('listen', { type: 'string', describe: 'Address to bind, for workers of other hosts' })
    .option('advertise', { type: 'string', describe: 'Name or address at which other hosts reach this one' })
    .option('port', { type: 'number', describe: 'Port to bind; default: any free port' })
    .option('token-file', { type: 'string', describe: 'File with the token; default: $EXMIX_TOKEN, else a new one' });
}

export interface ResolvedWorkers {
  /** With the engine of this host. */
  readonly config: EvaluationConfig;
  /** Sentences about the engine: which one, why, and warnings. */
  readonly notes: readonly string[];
  /** Workers of this host, for one computation. */
  readonly newWorkerHost: () => WorkerHost;
  /** Undefined: none was given. */
  readonly token: string | undefined;
}

/** @param command for messages @throws CONFIG_INVALID, NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export async function resolveWorkers(flags: WorkerFlags, command: string): Promise<ResolvedWorkers> {
  const { engine, device, threads, workers, listen, advertise, port } = flags;
  checkCount('--workers', workers, 0);
  checkCount('--batch-tokens', flags['batch-tokens'], 1);
  checkEngineName(engine);
  const asked = checkEvaluationConfig(
    {
      compute: { engine, device, threads },
      cluster: {
        coordinatorGraceMs: COORDINATOR_GRACE_MS,
        ...(listen === undefined ? {} : { listenHost: listen }),
        ...(advertise === undefined ? {} : { advertiseHost: advertise }),
        ...(port === undefined ? {} : { listenPort: port }),
      },
    },
    command,
  );
  const { config, resolved } = await resolveOnThisHost(asked, Math.max(1, workers));
  return {
    config,
    notes: [resolved.reason, ...resolved.notes],
    newWorkerHost: () => (workers === 0 ? NO_LOCAL_WORKERS : createLocalWorkers(workers)),
    token: await givenToken(flags['token-file']),
  };
}

/** @throws CONFIG_INVALID */
export function checkCount(flag: string, value: number, least: number): void {
  if (Number.isInteger(value) && value >= least) return;
  throw new TrainerError(
    'CONFIG_INVALID',
    `${flag}: expected a whole number ${least === 1 ? 'above 0' : `from ${least}`}, got ${value}`,
  );
}
