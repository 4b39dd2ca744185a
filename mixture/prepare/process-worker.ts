/**
 * A child process that makes units. If it ends while it makes a unit, the promise of the unit fails with WORKER_LOST.
 * Causes: it was killed, it ran out of memory, or it was silent for STALL_MS.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { fromErrorRecord, TrainerError } from '../../shared/errors.ts';
import { entryPoint } from '../../shared/package-files.ts';
import type { EnsuredUnit, UnitOrder, UnitProgress } from './ensure-unit.ts';
import type { FromUnitProcess, ToUnitProcess, UnitSetting } from './unit-messages.ts';
import type { UnitWorker } from './unit-workers.ts';

const MODULE = 'mixture/prepare/unit-process.ts';
/** A child that makes a unit and is silent for this long is killed, ms. Far longer than all deadlines of storage. */
const STALL_MS = 15 * 60_000;
/** From the request to stop to SIGKILL, ms. */
const STOP_MS = 5_000;
/** Characters of the end of a child's output that are kept for messages. */
const MAX_PRINTED = 2_000;

interface Waiting {
  readonly resolve: (ensured: EnsuredUnit) => void;
  readonly reject: (error: TrainerError) => void;
  readonly onProgress: (progress: UnitProgress) => void;
}

export class ProcessWorker implements UnitWorker {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #onNote: ((line: string) => void) | undefined;
  #waiting: Waiting | undefined;
  #stall: NodeJS.Timeout | undefined;
  #printed = '';
  #end: string | undefined;

  /** @param onNote lines for the user */
  constructor(setting: UnitSetting, onNote?: (line: string) => void) {
    this.#onNote = onNote;
    const { file, execArgv } = entryPoint(MODULE);
    // Its own process group, so that Ctrl-C reaches only the parent.
    this.#child = fork(file, [], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced',
      detached: true,
      execArgv: [...execArgv],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#printed = (this.#printed + text).slice(-MAX_PRINTED);
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#onEnd(`could not be started: ${error.message}`);
        resolve();
      });
      this.#child.once('close', (code, signal) => {
        this.#onEnd(`ended with ${signal ?? `status ${code}`}`);
        resolve();
      });
    });
    this.#child.on('message', (message: FromUnitProcess) => this.#receive(message));
    this.#send({ kind: 'begin', setting });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  ensure(order: UnitOrder, onProgress: (progress: UnitProgress) => void): Promise<EnsuredUnit> {
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) {
        reject(this.#lostError(this.#end));
        return;
      }
      this.#waiting = { resolve, reject, onProgress };
      this.#restartStallTimer();
      this.#send({ kind: 'unit', order });
    });
  }

  async stop(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#send({ kind: 'stop' });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  #send(message: ToUnitProcess): void {
    // The end of the child is noticed by its event.
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  #receive(message: FromUnitProcess): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#restartStallTimer();
    if (message.kind === 'note') this.#onNote?.(message.line);
    else if (message.kind === 'progress') waiting.onProgress(message.progress);
    else {
      this.#clearWaiting();
      if (message.kind === 'done') waiting.resolve(message.ensured);
      else waiting.reject(fromErrorRecord(message.error));
    }
  }

  #restartStallTimer(): void {
    clearTimeout(this.#stall);
    this.#stall = setTimeout(() => {
      this.#printed += `\nsilent for ${STALL_MS / 60_000} minutes`;
      this.#child.kill('SIGKILL');
    }, STALL_MS);
  }

  #clearWaiting(): void {
    clearTimeout(this.#stall);
    this.#waiting = undefined;
  }

  #onEnd(how: string): void {
    this.#end ??= how;
    const waiting = this.#waiting;
    this.#clearWaiting();
    waiting?.reject(this.#lostError(this.#end));
  }

  #lostError(how: string): TrainerError {
    const printed = this.#printed.trim() === '' ? '' : `; it printed: ${this.#printed.trim()}`;
    return new TrainerError('WORKER_LOST', `process ${this.pid ?? '?'} ${how}${printed}`, { retryable: true });
  }
}
