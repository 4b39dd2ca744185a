/**
 * Runs another program to its end, with a deadline and a bound on its kept output. Kills its whole process group at the deadline and when
 * the work is aborted.
 */
import { spawn } from 'node:child_process';
import { systemCode } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';

/** The end of each stream is kept, up to this length. */
const MAX_OUTPUT_CHARACTERS = 64 * 1024;

export interface ProgramInit {
  readonly command: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly cwd?: string;
  /** Called with each piece of standard output and error. */
  readonly onOutput?: (text: string) => void;
  /** A second reason to end it: its abort reason becomes `stopped`. */
  readonly stop?: AbortSignal;
}

export interface ProgramOutcome {
  /** Undefined if a signal ended it or it never started. */
  readonly status: number | undefined;
  readonly endedBy: NodeJS.Signals | undefined;
  /** Why we killed it or could not start it; undefined if it ended by itself. */
  readonly stopped: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws ABORTED when `signal` is aborted, after the program has ended */
export async function runProgram(init: ProgramInit): Promise<ProgramOutcome> {
  const { command, environment, deadlineMs, signal, onOutput, stop } = init;
  const [file, ...args] = command;
  throwIfAborted(signal, file!);
  const child = spawn(file!, args, {
    env: environment,
    detached: true, // own process group: g++ and pip have children
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(init.cwd === undefined ? {} : { cwd: init.cwd }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout = (stdout + text).slice(-MAX_OUTPUT_CHARACTERS);
    onOutput?.(text);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_OUTPUT_CHARACTERS);
    onOutput?.(text);
  });

  let stopped: string | undefined;
  const end = (reason: string): void => {
    stopped ??= reason;
    killGroup(child.pid);
  };
  const onAbort = (): void => end('aborted');
  const onStop = (): void => end(String(stop?.reason));
  const timer = setTimeout(() => end(`not done after ${deadlineMs / 1000} s`), deadlineMs);
  signal.addEventListener('abort', onAbort, { once: true });
  stop?.addEventListener('abort', onStop, { once: true });
  const outcome = await new Promise<Omit<ProgramOutcome, 'stopped' | 'stdout' | 'stderr'>>((resolve) => {
    child.once('error', (error) => {
      stopped ??= systemCode(error) === 'ENOENT' ? `${file!} does not exist` : error.message;
      if (child.pid === undefined) resolve({ status: undefined, endedBy: undefined });
    });
    child.once('close', (status, endedBy) => resolve({ status: status ?? undefined, endedBy: endedBy ?? undefined }));
  });
  clearTimeout(timer);
  signal.removeEventListener('abort', onAbort);
  stop?.removeEventListener('abort', onStop);
  throwIfAborted(signal, file!);
  return { ...outcome, stopped, stdout, stderr };
}

/** The last lines of a program's output, for an error: at most `numLines`, indented. */
export function outputTail(outcome: ProgramOutcome, numLines = 12): string {
  const text = outcome.stderr.trim() === '' ? outcome.stdout : outcome.stderr;
  const lines = text.split(/\r?\n|\r/u).filter((line) => line.trim() !== '');
  return lines.length === 0
    ? '  (no output)'
    : lines
        .slice(-numLines)
        .map((line) => `  ${line.slice(0, 500)}`)
        .join('\n');
}

/** Describes a failed end: `status 1`, `signal SIGILL`, `not done after 60 s`. */
export function describeEnd({ status, endedBy, stopped }: ProgramOutcome): string {
  if (stopped !== undefined) return stopped;
  return endedBy === undefined ? `status ${status ?? '?'}` : `signal ${endedBy}`;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (systemCode(error) !== 'ESRCH') throw error;
  }
}
