/**
 * A child process that makes units. The promise of a unit fails with WORKER_LOST where the process ends under it: killed, out of
 * memory, or silent for STALL_MS.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { fromErrorRecord, TrainerError } from '../../shared/errors.ts';
import { entryPoint } from '../../shared/package-files.ts';
import type { EnsuredUnit, UnitOrder, UnitProgress } from './ensure-unit.ts';
import type { FromUnitProcess, ToUnitProcess, UnitSetting } from './unit-messages.ts';
import type { UnitWorker } from './unit-workers.ts';

const MODULE = 'mixture/prepare/unit-process.ts';
/** A child that has a unit and says nothing for this long is ended. Far beyond the deadlines of all storage. */
const STALL_MS = 15 * 60_000;
/** From asking a child to stop to SIGKILL. */
const STOP_MS = 5_000;
/** Of what a child prints, the end is kept for messages. */
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
    // Its own process group: Ctrl-C reaches only the parent.
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
        this.#lose(`could not be started: ${error.message}`);
        resolve();
      });
      this.#child.once('close', (code, signal) => {
        this.#lose(`ended with ${signal ?? `status ${code}`}`);
        resolve();
      });
    });
    this.#child.on('message', (message: FromUnitProcess) => this.#hear(message));
    this.#say({ kind: 'begin', setting });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  ensure(order: UnitOrder, onProgress: (progress: UnitProgress) => void): Promise<EnsuredUnit> {
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) {
        reject(this.#lost(this.#end));
        return;
      }
      this.#waiting = { resolve, reject, onProgress };
      this.#watch();
      this.#say({ kind: 'unit', order });
    });
  }

  async stop(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#say({ kind: 'stop' });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  #say(message: ToUnitProcess): void {
    // A child that is gone is noticed by its end.
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  #hear(message: FromUnitProcess): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#watch();
    if (message.kind === 'note') this.#onNote?.(message.line);
    else if (message.kind === 'progress') waiting.onProgress(message.progress);
    else {
      this.#settle();
      if (message.kind === 'done') waiting.resolve(message.ensured);
      else waiting.reject(fromErrorRecord(message.error));
    }
  }

  #watch(): void {
    clearTimeout(this.#stall);
    this.#stall = setTimeout(() => {
      this.#printed += `\nsilent for ${STALL_MS / 60_000} minutes`;
      this.#child.kill('SIGKILL');
    }, STALL_MS);
  }

  #settle(): void {
    clearTimeout(this.#stall);
    this.#waiting = undefined;
  }

  #lose(how: string): void {
    this.#end ??= how;
    const waiting = this.#waiting;
    this.#settle();
    waiting?.reject(this.#lost(this.#end));
  }

  #lost(how: string): TrainerError {
    const printed = this.#printed.trim() === '' ? '' : `; it printed: ${this.#printed.trim()}`;
    return new TrainerError('WORKER_LOST', `process ${this.pid ?? '?'} ${how}${printed}`, { retryable: true });
  }
}
