/** Runs the real command in a process, and reads its run folder. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after } from 'node:test';
import { assertInvariant, TrainerError } from '../shared/errors.ts';
import type { LogRecord } from '../shared/logger.ts';

const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
export const TINY = fileURLToPath(new URL('./tiny.yaml', import.meta.url));
/** A command is killed after this time, ms. */
const DEADLINE_MS = 480_000;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningExmix {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves when the standard output so far matches. */
  printed(pattern: RegExp): Promise<void>;
}

/** A folder that is removed at the end of the test file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-e2e-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface ExmixStart {
  /** Program and arguments that run the command which is appended to them. */
  readonly wrapper?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts `exmix` with the given arguments. @param home $EXMIX_HOME, the folder of prepared mixtures */
export function startExmix(
  args: readonly string[],
  home: string,
  { wrapper = [], env = {} }: ExmixStart = {},
): RunningExmix {
  const [program, ...rest] = [...wrapper, process.execPath, EXMIX, ...args];
  const child = spawn(program!, rest, {
    env: { ...process.env, EXMIX_HOME: home, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (const watcher of watchers) watcher();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
  const printed = async (pattern: RegExp): Promise<void> => {
    let watcher!: () => void;
    const matched = new Promise<void>((resolve) => {
      watcher = () => {
        if (pattern.test(stdout)) resolve();
      };
      watchers.add(watcher);
      watcher();
    });
    const early = ended.then(({ code }) =>
      assertInvariant(
        pattern.test(stdout),
        `exmix ended with ${String(code)} before it printed ${String(pattern)}:\n${stdout}${stderr}`,
      ),
    );
    await Promise.race([matched, early]);
    watchers.delete(watcher);
  };
  return { child, ended, printed };
}

/** Runs `exmix` to its end. */
export function exmix(args: readonly string[], home: string, prefix: readonly string[] = []): Promise<Ended> {
  return startExmix(args, home, { wrapper: prefix }).ended;
}

/** Kills the workers that `exmix train` has left behind, if any. */
export function killWorkers(runFolder: string): void {
  const workers = join(runFolder, 'workers');
  if (!existsSync(workers)) return;
  for (const file of readdirSync(workers).filter((name) => name.endsWith('.json')))
    try {
      const facts = JSON.parse(readFileSync(join(workers, file), 'utf8')) as { process: { pid: number } };
      process.kill(facts.process.pid, 'SIGKILL');
    } catch {
      // it has ended
    }
}

/** The complete records of a run's log; none before the run has a log. */
export function readLog(runFolder: string): LogRecord[] {
  const path = join(runFolder, 'coordinator.jsonl');
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as LogRecord);
}

/** The last lines of each log of a run, for the message of a test that fails. */
function ends(runFolder: string): string {
  const folders = [runFolder, join(runFolder, 'workers')].filter(existsSync);
  const logs = folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
  return logs
    .filter((path) => /\.(?:jsonl|log)$/u.test(path))
    .map((path) => `== ${path}\n${readFileSync(path, 'utf8').split('\n').slice(-LINES_OF_LOG).join('\n')}`)
    .join('\n');
}

const POLL_MS = 20;
/** Lines of each log in the message of a wait that failed. */
const LINES_OF_LOG = 40;

/** Waits until the log has a matching record at or after index `from`. @returns its index */
export async function logged(
  runFolder: string,
  from: number,
  matches: (record: LogRecord) => boolean,
  what: string,
): Promise<number> {
  for (const end = performance.now() + DEADLINE_MS; performance.now() < end;) {
    const at = readLog(runFolder).findIndex((record, index) => index >= from && matches(record));
    if (at >= 0) return at;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new TrainerError('INTERNAL', `not logged within ${DEADLINE_MS} ms: ${what}\n${ends(runFolder)}`);
}

/** The last `paramDigest` in the run's log. */
export function finalDigest(runFolder: string): string {
  const digest = readLog(runFolder).findLast((record) => typeof record['paramDigest'] === 'string')?.['paramDigest'];
  assertInvariant(typeof digest === 'string', `${runFolder} has a digest in its log`);
  return digest;
}
