/**
 * A worker process of this host, started here or adopted: its identity, how it ends, and a way to signal it.
 *
 * A started one has a process group of its own, so that Ctrl-C reaches only `exmix train`, which lets the workers finish the step. An
 * adopted one was started by an `exmix train` that is gone: it is no child, so its end is seen by looking, and not how it ended.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { identityOf, isProvenAlive, whyGone, type ProcessIdentity } from '../../shared/process-identity.ts';
import type { WorkerEnd } from './restart-rule.ts';

/** Between two looks at an adopted process, ms. */
export const LOOK_EVERY_MS = 500;

export interface WorkerProcess {
  /** null where none could be started. */
  readonly identity: ProcessIdentity | null;
  /** @throws ABORTED when the process is not watched any more */
  readonly ended: Promise<WorkerEnd>;
  /** Without effect on a process that has ended, also when another has got its number. */
  signal(name: 'SIGTERM' | 'SIGKILL'): void;
}

export interface ProcessStart {
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  readonly env: NodeJS.ProcessEnv;
  /** Standard output and error are appended to it. */
  readonly logFile: string;
  /** Fires when it is not waited for any more; it does not keep this process alive then. */
  readonly abandoned: AbortSignal;
}

/** Starts a process. It never throws: one that could not be started has ended as `not-started`. */
export function startProcess({ command, env, logFile, abandoned }: ProcessStart): WorkerProcess {
  const [program, ...args] = command;
  let output: number | undefined;
  try {
    output = openSync(logFile, 'a');
    const child = spawn(program, args, { env, stdio: ['ignore', output, output], detached: true });
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
    // Its number is its own until the event loop turns: node asks for the ends of children there.
    const identity = child.pid === undefined ? null : identityOf(child.pid);
    return { identity, ended, signal: (name) => void child.kill(name) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { identity: null, ended: Promise.resolve({ kind: 'not-started', reason }), signal: () => undefined };
  } finally {
    if (output !== undefined) closeSync(output);
  }
}

/** Takes over a process of this host. */
export function adoptProcess(identity: ProcessIdentity, clock: Clock, abandoned: AbortSignal): WorkerProcess {
  const ended = async (): Promise<WorkerEnd> => {
    while (whyGone(identity) === undefined) await clock.sleep(LOOK_EVERY_MS, abandoned);
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
        // It has ended since, or belongs to somebody else: who waits for its end says so.
      }
    },
  };
}

function noLongerWatched(): TrainerError {
  return new TrainerError('ABORTED', 'the process is not watched any more');
}
