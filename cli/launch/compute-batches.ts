/**
 * Has the batches of a plan computed by the workers of this host, and by those of other hosts that join. The folder gets a log, the output of
 * the workers, and coordinator.json with the address and the token.
 */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { runEvaluation, type RunEvaluationInit } from '../../coordinator/evaluation/run-evaluation.ts';
import { announceCoordinator, findAnnouncedUrl } from '../../coordinator/run-folder/announcement.ts';
import { WORKERS_FOLDER } from '../../coordinator/run-folder/run-folder.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { systemClock } from '../../shared/clock.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';

export interface ComputeBatchesInit extends Pick<
  RunEvaluationInit,
  'config' | 'model' | 'plan' | 'results' | 'workerHost' | 'onResult' | 'signal'
> {
  /** Left out: a new one. */
  readonly token: string | undefined;
  /** Exists, and no other process works in it. */
  readonly folder: string;
  /** Name of the log in the folder. */
  readonly logFile: string;
  /** Whether a line tells how workers of other hosts join. */
  readonly isOpen: boolean;
  readonly onLine: (line: string) => void;
}

/** @throws what runEvaluation throws; DISK_FULL, PATH_UNUSABLE */
export async function computeBatches(init: ComputeBatchesInit): Promise<void> {
  const { folder, logFile, isOpen, onLine, token = randomBytes(32).toString('base64url'), ...rest } = init;
  const log = createLogger({
    file: join(folder, logFile),
    onRecord: (record) => {
      const line = describeProblem(record);
      if (line !== undefined) onLine(line);
    },
  });
  const logFolder = join(folder, WORKERS_FOLDER);
  await mkdir(logFolder, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', logFolder);
  });
  await runEvaluation({
    ...{ ...rest, token, log, logFolder, transport: webSocketTransport, clock: systemClock },
    onListening: async (listened) => {
      const url = await findAnnouncedUrl(listened, init.config.cluster.advertiseHost);
      await announceCoordinator(folder, { url, token, epoch: 1 });
      if (isOpen)
        onLine(`workers of other hosts join by: exmix worker --url ${url}; the token is in ${folder}/coordinator.json`);
      return findAnnouncedUrl(listened);
    },
  });
}

/** A warning or an error, for the terminal. */
function describeProblem({ level, msg, ...fields }: LogRecord): string | undefined {
  if (level !== 'warn' && level !== 'error') return undefined;
  const facts = ['workerId', 'batch', 'code', 'reason'].flatMap((name) =>
    fields[name] === undefined ? [] : [`${name}=${JSON.stringify(fields[name])}`],
  );
  return [`${msg}:`, ...facts].join(' ');
}
