/**
 * The processes of a run on this host: finds its workers, signals them, starts more, and leaves no process at the end. Only a process that
 * is proven to be the one in its worker file gets a signal.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { waitAtMost } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { EXMIX_ENTRY, nodeCommand } from '../../shared/package-files.ts';
import { isProvenAlive, type ProcessIdentity } from '../../shared/process-identity.ts';
import { askCoordinator, findCoordinator } from '../coordinator-client.ts';
import type { CoordinatorAddress } from '../../coordinator/run-folder/announcement.ts';
import { localWorkerId, readWorkerFiles } from '../launch/worker-files.ts';
import { adoptProcess, startProcess, type WorkerProcess } from '../launch/worker-process.ts';

/** After the end of the run, workers have so long to exit without a signal, ms. */
const GRACE_MS = 15_000;
/** From SIGTERM to SIGKILL, and from SIGKILL to the end of the wait, ms. */
const KILL_AFTER_MS = 5_000;
/** Largest number of workers started here in one run. */
const MAX_JOINED = 256;

const statusSchema = z.object({
  workers: z.array(z.object({ workerId: z.string(), host: z.string(), rank: z.number().nullable() })),
});

export interface RunProcessesInit {
  readonly runDir: string;
  readonly clock: Clock;
}

export class RunProcesses {
  readonly #init: RunProcessesInit;
  readonly #workersFolder: string;
  /** Workers that were started here, by id. */
  readonly #joined = new Map<string, WorkerProcess>();
  /** Processes stopped by SIGSTOP, by worker id. */
  readonly #stopped = new Map<string, ProcessIdentity>();
  readonly #over = new AbortController();

  constructor(init: RunProcessesInit) {
    this.#init = init;
    this.#workersFolder = join(init.runDir, 'workers');
  }

  /** @returns ids of the members that are processes of this host, sorted @throws CONNECT_FAILED if no coordinator answers */
  async members(): Promise<string[]> {
    const { workers } = statusSchema.parse(await askCoordinator(await this.#address(), '/status'));
    const known = await this.#identities();
    const isMember = ({ workerId, host, rank }: (typeof workers)[number]): boolean =>
      rank !== null && host === hostname() && known.has(workerId);
    return workers
      .filter(isMember)
      .map(({ workerId }) => workerId)
      .sort();
  }

  /** @throws WORKER_LOST if its process is gone */
  async signal(workerId: string, name: NodeJS.Signals): Promise<void> {
    const identity = (await this.#identities()).get(workerId);
    if (identity === undefined || !send(identity, name))
      throw new TrainerError('WORKER_LOST', `the process of ${workerId} is gone`);
  }

  /** Stops a worker and continues it after `forMs`, or when the run ends. @throws WORKER_LOST if its process is gone */
  async stopFor(workerId: string, forMs: number): Promise<void> {
    const identity = (await this.#identities()).get(workerId);
    if (identity === undefined || !send(identity, 'SIGSTOP'))
      throw new TrainerError('WORKER_LOST', `the process of ${workerId} is gone`);
    this.#stopped.set(workerId, identity);
    void this.#init.clock
      .sleep(forMs, this.#over.signal)
      .catch(() => undefined)
      .then(() => {
        send(identity, 'SIGCONT');
        if (this.#stopped.get(workerId) === identity) this.#stopped.delete(workerId);
      });
  }

  /** Starts one more worker. @returns its id @throws CONNECT_FAILED, WORKER_LOST if it cannot be started, CONFIG_INVALID for too many */
  async join(): Promise<string> {
    const { url, token } = await this.#address();
    if (this.#joined.size >= MAX_JOINED)
      throw new TrainerError('CONFIG_INVALID', `expected at most ${MAX_JOINED} workers to join one run`);
    const workerId = `chaos-${this.#joined.size}`;
    const worker = startProcess({
      command: [...nodeCommand(EXMIX_ENTRY), 'worker', '--url', url, '--id', workerId],
      env: { ...process.env, EXMIX_TOKEN: token },
      logFile: join(this.#workersFolder, `${workerId}.log`),
      abandoned: new AbortController().signal,
    });
    if (worker.identity === null) throw new TrainerError('WORKER_LOST', `${workerId} could not be started`);
    this.#joined.set(workerId, worker);
    return workerId;
  }

  /** Continues every stopped process. From now on a stop is undone at once. */
  resumeAll(): void {
    this.#over.abort();
    for (const identity of this.#stopped.values()) send(identity, 'SIGCONT');
    this.#stopped.clear();
  }

  /** Ends all processes of the run, after its coordinator has ended. */
  async end(): Promise<void> {
    const { clock } = this.#init;
    this.resumeAll();
    await this.#endAll([...this.#joined.values()], GRACE_MS);
    // Some are left if a coordinator was killed and not restarted.
    const unwatched = new AbortController();
    const local = [...(await this.#localIdentities()).values()].filter(isProvenAlive);
    await this.#endAll(
      local.map((identity) => adoptProcess(identity, clock, unwatched.signal)),
      0,
    );
    unwatched.abort();
  }

  async #endAll(workers: readonly WorkerProcess[], graceMs: number): Promise<void> {
    const { clock } = this.#init;
    const all = Promise.allSettled(workers.map(({ ended }) => ended));
    const signalAll = (name: 'SIGTERM' | 'SIGKILL'): void => {
      for (const worker of workers) if (worker.identity !== null && isProvenAlive(worker.identity)) worker.signal(name);
    };
    await waitAtMost(all, graceMs, clock);
    signalAll('SIGTERM');
    await waitAtMost(all, KILL_AFTER_MS, clock);
    signalAll('SIGKILL');
    await waitAtMost(all, KILL_AFTER_MS, clock);
  }

  async #address(): Promise<CoordinatorAddress> {
    const address = await findCoordinator(this.#init.runDir);
    if (address !== undefined) return address;
    throw new TrainerError('CONNECT_FAILED', `no coordinator has listened yet in ${this.#init.runDir}`, {
      retryable: true,
    });
  }

  async #identities(): Promise<ReadonlyMap<string, ProcessIdentity>> {
    const joined = [...this.#joined].flatMap(([workerId, { identity }]): [string, ProcessIdentity][] =>
      identity !== null && isProvenAlive(identity) ? [[workerId, identity]] : [],
    );
    return new Map([...(await this.#localIdentities()), ...joined]);
  }

  async #localIdentities(): Promise<ReadonlyMap<string, ProcessIdentity>> {
    try {
      const files = [...(await readWorkerFiles(this.#workersFolder))];
      return new Map(
        files.flatMap(([index, file]): [string, ProcessIdentity][] =>
          file === null ? [] : [[localWorkerId(index), file.process]],
        ),
      );
    } catch (error) {
      // Without the folder, no worker was started.
      if (error instanceof TrainerError && error.code === 'PATH_UNUSABLE') return new Map();
      throw error;
    }
  }
}

/** @returns false if the process is gone */
function send(identity: ProcessIdentity, name: NodeJS.Signals): boolean {
  if (!isProvenAlive(identity)) return false;
  try {
    process.kill(identity.pid, name);
    return true;
  } catch {
    return false; // it has just ended
  }
}
