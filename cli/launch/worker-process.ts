/**
 * A worker process of this host, started here or adopted: its identity, its end, and signals to it.
 *
 * A started process has its own process group, so Ctrl-C reaches only `exmix train`, which lets the workers finish the step. An adopted
 * process was started by an `exmix train` that is gone. It is not our child: we poll for its exit and cannot learn its exit status.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Clock } from '../../shared/clock.ts';
import { systemCode } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { identityOf, isProvenAlive, whyGone, type ProcessIdentity } from '../../shared/process-identity.ts';
import type { WorkerEnd } from './restart-rule.ts';

/** Between two polls of an adopted process, ms. */
export const POLL_INTERVAL_MS = 500;

export interface WorkerProcess {
  /** null if the process could not be started. */
  readonly identity: ProcessIdentity | null;
  /** @throws ABORTED when the process is no longer watched */
  readonly ended: Promise<WorkerEnd>;
  /** The system's error if its output is not kept, because the log file cannot be opened. */
  readonly outputLost?: string;
  /** Does nothing if the process has ended, even if another process has its pid now. */
  signal(name: 'SIGTERM' | 'SIGKILL'): void;
}

export interface ProcessStart {
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  readonly env: NodeJS.ProcessEnv;
  /** Gets standard output and error appended. */
  readonly logFile: string;
  /** Aborted when the process is no longer watched; then it does not keep this process alive. */
  readonly abandoned: AbortSignal;
}

/**
 * Starts a process, without a log file if that cannot be opened. Never throws: a process that could not be started has ended as
 * `not-started`, also if the folder of the log file is missing.
 */
export function startProcess({ command, env, logFile, abandoned }: ProcessStart): WorkerProcess {
  const [program, ...args] = command;
  let output: LogFile | undefined;
  try {
    output = openLog(logFile);
    const { fd } = output;
    const child = spawn(program, args, { env, stdio: ['ignore', fd, fd], detached: true });
    const ended = new Promise<WorkerEnd>((resolve, reject) => {
      const abandon = (): void => {
        child.unref();
        reject(noLongerWatched());
      };
      abandoned.addEventListener('abort', abandon, { once: true });
      const end = (how: WorkerEnd): void => {
        abandoned.removeEventListener('abort', abandon);
        resolve(how);
      };
      child.on('error', ({ message }) => {
        if (child.pid === undefined) end({ kind: 'not-started', reason: message });
      });
      child.once('exit', (status, signal) =>
        end(status === null ? { kind: 'killed', signal: signal ?? 'an unknown signal' } : { kind: 'exited', status }),
      );
    });
    // The pid cannot be reused before the event loop turns: only there does node reap children.
    const identity = child.pid === undefined ? null : identityOf(child.pid);
    const { lost } = output;
    return {
      identity,
      ended,
      ...(lost === undefined ? {} : { outputLost: lost }),
      signal: (name) => void child.kill(name),
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { identity: null, ended: Promise.resolve({ kind: 'not-started', reason }), signal: () => undefined };
  } finally {
    if (typeof output?.fd === 'number') closeSync(output.fd);
  }
}

interface LogFile {
  readonly fd: number | 'ignore';
  readonly lost?: string;
}

/** @throws the error of the system if the folder is missing */
function openLog(path: string): LogFile {
  try {
    return { fd: openSync(path, 'a') };
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined || code === 'ENOENT') throw error;
    return { fd: 'ignore', lost: code };
  }
}

/** Watches a running process of this host. */
export function adoptProcess(identity: ProcessIdentity, clock: Clock, abandoned: AbortSignal): WorkerProcess {
  const ended = async (): Promise<WorkerEnd> => {
    while (whyGone(identity) === undefined) await clock.sleep(POLL_INTERVAL_MS, abandoned);
    return { kind: 'vanished' };
  };
  return {
    identity,
    ended: ended(),
    signal(name) {
      if (!isProvenAlive(identity)) return;
      try {
        process.kill(identity.pid, name);
      } catch {
        // It has just ended, or belongs to another user: the poll reports that.
      }
    },
  };
}

function noLongerWatched(): TrainerError {
  return new TrainerError('ABORTED', 'the process is no longer watched');
}
