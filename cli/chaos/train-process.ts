/**
 * A child `exmix train`: its command line, its end, and signals to it. It has its own process group, so Ctrl-C reaches it only through its
 * supervisor.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { TrainerError } from '../../shared/errors.ts';
import { EXMIX_ENTRY, nodeCommand } from '../../shared/package-files.ts';

export interface TrainEnd {
  /** Exit status; null if a signal ended it. */
  readonly status: number | null;
  /** Whether kill() ended it. */
  readonly isKilled: boolean;
}

export class TrainProcess {
  readonly #child: ChildProcess;
  /** @throws INTERNAL if it could not be started */
  readonly ended: Promise<TrainEnd>;
  #isKilled = false;

  /** @param args arguments of exmix; its output goes to the output of this process */
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

  /** Sends SIGKILL, like a power failure. */
  kill(): void {
    this.#isKilled = true;
    this.#child.kill('SIGKILL');
  }
}

/** Flags of chaos with and without a value, in all spellings that yargs accepts. */
const WITH_VALUE = ['--chaos', '--chaos-seed', '--chaosSeed'];
const WITHOUT_VALUE = ['--chaos-verify', '--chaosVerify', '--no-chaos-verify', '--no-chaosVerify'];
/** Replaced, because each run has its own folder. */
const RUN_DIR = ['--run-dir', '--runDir'];

/**
 * @param argv arguments of exmix, starting with the command name
 * @returns the same command without the flags of chaos, for that run folder
 */
export function childCommand(argv: readonly string[], runDir: string): string[] {
  const kept: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    const name = argument.split('=', 1)[0]!;
    if ([...WITH_VALUE, ...RUN_DIR].includes(name)) {
      if (!argument.includes('=')) i++; // its value
    } else if (!WITHOUT_VALUE.includes(name)) kept.push(argument);
    else if (!argument.includes('=') && /^(?:true|false)$/u.test(argv[i + 1] ?? '')) i++;
  }
  return [...kept, '--run-dir', runDir];
}
