/** `exmix train` as a child: its end, and its signals. In a group of its own, so that Ctrl-C reaches it once, from its supervisor. */
import { spawn, type ChildProcess } from 'node:child_process';
import { TrainerError } from '../../shared/errors.ts';
import { EXMIX_ENTRY, nodeCommand } from '../../shared/package-files.ts';

export interface TrainEnd {
  /** Exit status; null where a signal ended it. */
  readonly status: number | null;
  /** Chaos has killed it. */
  readonly isKilled: boolean;
}

export class TrainProcess {
  readonly #child: ChildProcess;
  /** @throws INTERNAL where it could not be started */
  readonly ended: Promise<TrainEnd>;
  #isKilled = false;

  /** @param args of exmix; what it prints goes where this process prints */
  constructor(args: readonly string[]) {
    const [program, ...first] = nodeCommand(EXMIX_ENTRY);
    const child = spawn(program, [...first, ...args], {
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
    });
    this.#child = child;
    this.ended = new Promise((resolve, reject) => {
      child.once('error', (error) => {
        if (child.pid === undefined)
          reject(new TrainerError('INTERNAL', `exmix train could not be started: ${error.message}`, { cause: error }));
      });
      child.once('exit', (status) => resolve({ status, isKilled: status === null && this.#isKilled }));
    });
  }

  get isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** As a power cut would. */
  kill(): void {
    this.#isKilled = true;
    this.#child.kill('SIGKILL');
  }
}
