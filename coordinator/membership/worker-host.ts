/**
 * The worker processes of this host, as the coordinator sees them. `exmix train` starts them (cli/launch/local-workers.ts); workers that
 * run elsewhere start by themselves and dial in.
 */
import type { Logger } from '../../shared/logger.ts';

export interface WorkerHost {
  /**
   * Starts or adopts the workers of this host. Called once, when the coordinator listens for the first time.
   * @throws PATH_UNUSABLE
   */
  start(init: WorkerHostStart): Promise<void>;
  /** Kills the process of a worker that does not answer, so that it is started again. Ignores workers that run elsewhere. */
  kill(workerId: string): void;
  /** Whether the process with this pid is known to have ended: its state is gone, and nobody waits for it. */
  hasEnded(workerId: string, pid: number): boolean;
  /** Why the first worker that is not started again ended; undefined while all are kept running. */
  readonly failure: string | undefined;
  /** Waits for the workers to leave, then ends those that are left. */
  stop(): Promise<void>;
}

export interface WorkerHostStart {
  /** Address that the workers dial. */
  readonly url: string;
  readonly token: string;
  /** Folder for the output of the workers. */
  readonly logFolder: string;
  readonly log: Logger;
  readonly progress: WorkerProgress;
}

/** Facts by which a host decides whether to start a worker again. */
export interface WorkerProgress {
  /** Committed steps that the worker took part in; only differences matter. */
  numCommitted(workerId: string): number;
  /** Whether the run needs the worker no more: it has ended, or the worker was excluded. */
  isDismissed(workerId: string): boolean;
}

/** The host of `exmix coordinator`: it runs no workers. */
export const NO_LOCAL_WORKERS: WorkerHost = {
  start: () => Promise.resolve(),
  kill: () => undefined,
  hasEnded: () => false,
  failure: undefined,
  stop: () => Promise.resolve(),
};
