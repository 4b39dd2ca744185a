/**
 * Pauses a run while its disk is full. A write that the run depends on (a record of the journal, a step of the ledger) is repeated until
 * there is free space, and the log says so. One DiskSpace serves all writers of a run.
 *
 * Definition: a disk is full where a write fails with DISK_FULL (ENOSPC, EDQUOT). Any other failure is final. DISK_FULL is final too until
 * `logTo`: nothing waits that the log cannot report, so opening a run fails at once.
 * The wait has no deadline, since a person or another program must free the space. It ends with free space, by a signal, or by `stopWaiting`.
 */
import { statfs } from 'node:fs/promises';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';

/** Pause between two attempts, ms. */
const RETRY_MS = 1_000;
/** A wait is logged again after this time, ms. */
const REPEAT_LOG_MS = 30_000;

export interface DiskSpaceInit {
  /** The run folder: the log reports the free bytes of its file system. */
  readonly folder: string;
  readonly clock: Clock;
  /** Ends every wait. */
  readonly signal: AbortSignal;
}

export class DiskSpace {
  readonly #init: DiskSpaceInit;
  readonly #stopped = new AbortController();
  #log: Logger | undefined;
  #numWaiting = 0;
  #sinceMs = 0;
  #loggedMs = 0;
  #waitingFor = '';

  constructor(init: DiskSpaceInit) {
    this.#init = init;
  }

  /** From now on writes wait on a full disk. The log says so at once, every 30 s, and when the run continues. */
  logTo(log: Logger): void {
    this.#log = log;
  }

  /** One sentence; empty while no write waits. */
  get waitingFor(): string {
    return this.#waitingFor;
  }

  /** The run is about to end: waits under way fail with DISK_FULL, and from now on a full disk is final. */
  stopWaiting(): void {
    this.#stopped.abort();
  }

  /**
   * Repeats an attempt for as long as the disk is full.
   * @param attempt a failed one leaves nothing behind that the next one does not repair
   * @param closing ends this wait
   * @throws the last error of the attempt: DISK_FULL where the wait was ended, any other at once
   */
  async keepTrying<Result>(attempt: () => Promise<Result>, closing: AbortSignal): Promise<Result> {
    try {
      return await attempt();
    } catch (error) {
      const stop = AbortSignal.any([closing, this.#init.signal, this.#stopped.signal]);
      if (this.#log === undefined || stop.aborted || !isDiskFull(error)) throw error;
      return await this.#retry(attempt, error, this.#log, stop);
    }
  }

  async #retry<Result>(
    attempt: () => Promise<Result>,
    first: TrainerError,
    log: Logger,
    stop: AbortSignal,
  ): Promise<Result> {
    if (this.#numWaiting === 0) {
      this.#sinceMs = this.#init.clock.monotonicMs();
      this.#loggedMs = -Infinity;
    }
    this.#numWaiting += 1;
    let isWritten = false;
    try {
      for (let failure = first; ;) {
        await this.#logPause(failure, log);
        await this.#sleep(stop);
        if (stop.aborted) throw failure;
        try {
          const result = await attempt();
          isWritten = true;
          return result;
        } catch (error) {
          if (!isDiskFull(error)) throw error;
          failure = error;
        }
      }
    } finally {
      this.#numWaiting -= 1;
      if (this.#numWaiting === 0) {
        this.#waitingFor = '';
        const { folder, clock } = this.#init;
        const forMs = Math.round(clock.monotonicMs() - this.#sinceMs);
        if (isWritten) log.info({ folder, forMs }, 'run continues after a full disk');
      }
    }
  }

  async #logPause(failure: TrainerError, log: Logger): Promise<void> {
    const { folder, clock } = this.#init;
    const reason = `${failure.message}; the run is paused, and continues by itself once there is free space`;
    this.#waitingFor = reason;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#loggedMs < REPEAT_LOG_MS) return;
    this.#loggedMs = nowMs;
    const forMs = Math.round(nowMs - this.#sinceMs);
    log.warn({ folder, freeBytes: await freeBytes(folder), forMs, reason }, 'run paused by a full disk');
  }

  async #sleep(stop: AbortSignal): Promise<void> {
    try {
      await this.#init.clock.sleep(RETRY_MS, stop);
    } catch (error) {
      if (!stop.aborted) throw error;
    }
  }
}

function isDiskFull(error: unknown): error is TrainerError {
  return error instanceof TrainerError && error.code === 'DISK_FULL';
}

/** For the log only; null where the file system does not report it. Under a quota there may be many, though no write succeeds. */
async function freeBytes(folder: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
