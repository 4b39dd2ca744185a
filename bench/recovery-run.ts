/** One run of the demo that the bench disturbs: its processes, its log, and waits for events in the log. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { RunProcesses } from '../cli/chaos/run-processes.ts';
import { findCoordinator } from '../cli/coordinator-client.ts';
import { systemClock } from '../shared/clock.ts';
import { assertInvariant, TrainerError } from '../shared/errors.ts';
import type { LogFields } from './recovery-times.ts';

const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
const POLL_INTERVAL_MS = 10;

export class DisturbedRun {
  readonly records: LogFields[] = [];
  readonly processes: RunProcesses;
  readonly #args: readonly string[];
  readonly #runDir: string;
  readonly #deadlineMs: number;
  readonly #signal: AbortSignal;
  #train: ChildProcess;
  /** Bytes of the log read so far. */
  #offset = 0;

  /** @param deadlineMs limit of each wait */
  constructor(engine: string, runDir: string, deadlineMs: number, signal: AbortSignal) {
    const fixed = ['--preset', 'demo', '--engine', engine, '--steps', '1000000', '--seed', '7', '--workers', '3'];
    this.#args = ['train', ...fixed, '--run-dir', runDir];
    this.#runDir = runDir;
    this.#deadlineMs = deadlineMs;
    this.#signal = signal;
    this.processes = new RunProcesses({ runDir, clock: systemClock });
    this.#train = this.#start();
  }

  /** Kills coordinator and launcher, and restarts them at once. @returns the time of the kill, ms */
  async killCoordinator(): Promise<number> {
    const ended = new Promise((resolve) => this.#train.once('exit', resolve));
    const killedMs = Date.now();
    this.#train.kill('SIGKILL');
    await ended;
    this.#train = this.#start();
    return killedMs;
  }

  /** Starts one more worker. */
  async startWorker(workerId: string): Promise<ChildProcess> {
    const address = await findCoordinator(this.#runDir);
    assertInvariant(address !== undefined, 'the coordinator has listened');
    const args = [EXMIX, 'worker', '--url', address.url, '--id', workerId];
    return spawn(process.execPath, args, { stdio: 'ignore', env: { ...process.env, EXMIX_TOKEN: address.token } });
  }

  /** Waits until `find` returns a value for the log so far. @throws RENDEZVOUS_TIMEOUT after the deadline; the signal's reason */
  async until<T>(what: string, find: (records: readonly LogFields[]) => T | undefined): Promise<T> {
    const endMs = Date.now() + this.#deadlineMs;
    for (let hasNewLines = true; Date.now() < endMs; hasNewLines = this.#read()) {
      const found = hasNewLines ? find(this.records) : undefined;
      if (found !== undefined) return found;
      assertInvariant(this.#train.exitCode === null, `the run ended before ${what}; see ${this.#runDir}`);
      await sleep(POLL_INTERVAL_MS, undefined, { signal: this.#signal });
    }
    throw new TrainerError('RENDEZVOUS_TIMEOUT', `not within ${this.#deadlineMs} ms: ${what}; see ${this.#runDir}`);
  }

  /** Waits until the last generation has `worldSize` members and has committed `numSteps` steps. @returns its members, in rank order */
  untilTrained(worldSize: number, numSteps: number): Promise<readonly string[]> {
    return this.until(`${numSteps} steps of ${worldSize} workers`, (records) => {
      const formed = records.findLastIndex(({ msg }) => msg === 'generation formed');
      const after = records.slice(formed + 1);
      const numCommitted = after.filter(({ msg }) => msg === 'step committed').length;
      const isOver = after.some(({ msg }) => msg === 'generation ended' || msg === 'generation changes');
      const isTrained = records[formed]?.['worldSize'] === worldSize && numCommitted >= numSteps && !isOver;
      return isTrained ? (records[formed]!['members'] as readonly string[]) : undefined;
    });
  }

  /** Ends the run. Resolves when all its processes have ended. */
  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#train.once('exit', resolve));
    if (this.#train.exitCode === null && this.#train.signalCode === null) {
      this.#train.kill('SIGTERM');
      await Promise.race([ended, sleep(this.#deadlineMs, undefined, { ref: false })]);
      this.#train.kill('SIGKILL');
    }
    await this.processes.end();
  }

  #start(): ChildProcess {
    return spawn(process.execPath, [EXMIX, ...this.#args], { stdio: 'ignore' });
  }

  /** Reads the new complete lines of the log. @returns whether there are any */
  #read(): boolean {
    const path = join(this.#runDir, 'coordinator.jsonl');
    if (!existsSync(path)) return false;
    const file = openSync(path, 'r');
    try {
      const bytes = Buffer.alloc(fstatSync(file).size - this.#offset);
      readSync(file, bytes, 0, bytes.length, this.#offset);
      const end = bytes.lastIndexOf('\n') + 1;
      this.#offset += end;
      const lines = bytes.toString('utf8', 0, end).split('\n').slice(0, -1);
      this.records.push(...lines.map((line) => JSON.parse(line) as LogFields));
      return lines.length > 0;
    } finally {
      closeSync(file);
    }
  }
}
