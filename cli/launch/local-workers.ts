/**
 * Worker processes of one host, as children of `exmix train`. Each has a process group of its own, so that Ctrl-C reaches only
 * the parent, which lets the workers finish the step; the token goes by environment, never by the command line.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../../shared/logger.ts';

const EXMIX = fileURLToPath(new URL('../exmix.mjs', import.meta.url));
/** From SIGTERM to SIGKILL, ms. */
const KILL_AFTER_MS = 5_000;

export interface LocalWorkersInit {
  readonly count: number;
  readonly url: string;
  readonly token: string;
  /** Folder for what the workers print. */
  readonly logFolder: string;
  readonly log: Logger;
  /** A worker ended with a failure; the sentence says which, and where it wrote why. */
  readonly onFailed: (reason: string) => void;
}

export class LocalWorkers {
  readonly #children: { readonly workerId: string; readonly child: ChildProcess; readonly exited: Promise<void> }[] =
    [];

  constructor({ count, url, token, logFolder, log, onFailed }: LocalWorkersInit) {
    for (let index = 0; index < count; index++) {
      const workerId = `local-${index}`;
      const logFile = join(logFolder, `${workerId}.log`);
      const output = openSync(logFile, 'a');
      const place = ['--id', workerId, '--local-rank', String(index)];
      const child = spawn(process.execPath, [EXMIX, 'worker', '--url', url, ...place], {
        env: { ...process.env, EXMIX_TOKEN: token },
        stdio: ['ignore', output, output],
        detached: true,
      });
      closeSync(output);
      const exited = new Promise<void>((resolve) => {
        child.once('error', (error) => {
          onFailed(`worker ${workerId} could not be started: ${error.message}`);
          resolve();
        });
        child.once('exit', (code, signal) => {
          const level = code === 0 ? 'debug' : 'warn';
          log[level]({ workerId, pid: child.pid, exitCode: code, signal }, 'worker exited');
          if (code !== 0)
            onFailed(
              `worker ${workerId} (pid ${child.pid}) ended with ${signal ?? `status ${code}`}; its log is ${logFile}`,
            );
          resolve();
        });
      });
      this.#children.push({ workerId, child, exited });
      log.info({ workerId, pid: child.pid }, 'worker started');
    }
  }

  /** Waits until all have exited by themselves; those that have not by then are ended. */
  async stop(graceMs: number): Promise<void> {
    const all = Promise.all(this.#children.map(({ exited }) => exited));
    await withinMs(all, graceMs);
    for (const { child } of this.#children)
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await withinMs(all, KILL_AFTER_MS);
    for (const { child } of this.#children)
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await all;
  }
}

async function withinMs(done: Promise<unknown>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([done, late]);
  clearTimeout(timer);
}
