/**
 * Tells when a file may have changed, without polling it: the file system's events, and a slow timer for file systems and hosts that send none
 * (NFS). The file may be missing, and so may its folder. It may be replaced by another one of its name.
 */
import { watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Clock } from '../../shared/clock.ts';
import { abortedError, throwIfAborted } from '../../shared/abort.ts';

/** Without an event the file counts as changed after this time, ms. */
export const UNSEEN_CHANGE_MS = 10_000;

export class FileWatch {
  readonly #path: string;
  readonly #clock: Clock;
  #watcher: FSWatcher | undefined;
  #watched: string | undefined;
  #mayHaveChanged = false;
  #wake: (() => void) | undefined;

  /** @param path absolute */
  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  /** Resolves when the file may have changed since the last call, at once the first time. @throws ABORTED */
  async changed(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal, `waiting for a change of ${this.#path}`);
    this.#watch();
    if (!this.#mayHaveChanged && !(await this.#isWoken(signal))) this.close(); // the next call watches anew: the folder may be another one
    this.#mayHaveChanged = false;
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#watched = undefined;
  }

  /** Watches the folder of the file, or the one above until it is there: a watched file would be lost when it is replaced. */
  #watch(): void {
    const folder = dirname(this.#path);
    for (const [watched, name] of [
      [folder, basename(this.#path)],
      [dirname(folder), basename(folder)],
    ] as const) {
      if (this.#watched === watched) return;
      let watcher: FSWatcher;
      try {
        watcher = watch(watched, (_, changed) => {
          if (changed === null || changed === name) this.#note();
        });
      } catch {
        continue; // it is not there, or the system has no more watches: the timer is left
      }
      this.close();
      watcher.on('error', () => this.close());
      this.#watcher = watcher;
      this.#watched = watched;
      this.#mayHaveChanged = true; // before it was watched
      return;
    }
  }

  #note(): void {
    this.#mayHaveChanged = true;
    this.#wake?.();
  }

  /** @returns false after UNSEEN_CHANGE_MS */
  async #isWoken(signal: AbortSignal): Promise<boolean> {
    const over = new AbortController();
    const woken = new Promise<boolean>((resolve) => (this.#wake = () => resolve(true)));
    const late = this.#clock.sleep(UNSEEN_CHANGE_MS, AbortSignal.any([signal, over.signal])).then(
      () => false,
      () => {
        if (signal.aborted) throw abortedError(`waiting for a change of ${this.#path}`, signal);
        return false;
      },
    );
    try {
      return await Promise.race([woken, late]);
    } finally {
      this.#wake = undefined;
      over.abort();
    }
  }
}
