/**
 * A full disk pauses a run: what must be on disk before the run goes on (a record of the journal, a step of the ledger) is tried again
 * until there is room, and the log says so. One of these for a run, shared by all who write such records in its folder.
 *
 * A disk is full where an attempt fails with DISK_FULL (ENOSPC, EDQUOT); every other failure is final, and so is this one until
 * `tellTo`: nobody waits without being told, so what opens a run fails at once. The wait has no deadline, for only a person or another
 * program makes room: it ends with room, the signals, or `stopWaiting`.
 */
import { statfs } from 'node:fs/promises';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';

/** Pause between two attempts, ms. */
const RETRY_MS = 1_000;
/** How often a wait that lasts is told again, ms. */
const TELL_EVERY_MS = 30_000;

export interface RoomOnDiskInit {
  /** The run folder: its file system is the one whose free bytes are told. */
  readonly folder: string;
  readonly clock: Clock;
  /** Ends every wait. */
  readonly signal: AbortSignal;
}

export class RoomOnDisk {
  readonly #init: RoomOnDiskInit;
  readonly #stopped = new AbortController();
  #log: Logger | undefined;
  #numWaiting = 0;
  #sinceMs = 0;
  #toldMs = 0;
  #waitingFor = '';

  constructor(init: RoomOnDiskInit) {
    this.#init = init;
  }

  /** From now on a full disk is waited for, and the log says so: at once, every 30 s, and when the run goes on. */
  tellTo(log: Logger): void {
    this.#log = log;
  }

  /** What the run waits for, in a sentence; empty while it does not. */
  get waitingFor(): string {
    return this.#waitingFor;
  }

  /** The run is about to end: waits under way fail with DISK_FULL, and a full disk is final from now on. */
  stopWaiting(): void {
    this.#stopped.abort();
  }

  /**
   * Makes an attempt, and makes it again for as long as the disk is full.
   * @param attempt to be made any number of times; one that fails leaves nothing behind that the next one does not put right
   * @param closing ends this wait
   * @throws what the attempt threw last: DISK_FULL where the wait was ended, any other failure at once
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
      this.#toldMs = -Infinity;
    }
    this.#numWaiting += 1;
    let hasRoom = false;
    try {
      for (let failure = first; ;) {
        await this.#tellPause(failure, log);
        await this.#sleep(stop);
        if (stop.aborted) throw failure;
        try {
          const result = await attempt();
          hasRoom = true;
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
        if (hasRoom) log.info({ folder, forMs }, 'run goes on after a full disk');
      }
    }
  }

  async #tellPause(failure: TrainerError, log: Logger): Promise<void> {
    const { folder, clock } = this.#init;
    const reason = `${failure.message}; the run is paused, and goes on by itself once there is room`;
    this.#waitingFor = reason;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#toldMs < TELL_EVERY_MS) return;
    this.#toldMs = nowMs;
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

/** For the log only; null where the file system does not say. Under a quota there may be many although nothing can be written. */
async function freeBytes(folder: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
