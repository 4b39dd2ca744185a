/**
 * A disk in virtual time. An acknowledged write survives every crash. If a process crashes during a write, the seed decides whether the
 * write is on disk. Reading takes no time.
 */
import { hashName, RandomStream } from '../../shared/random.ts';
import type { ScheduledEvent, VirtualTime } from './virtual-clock.ts';
import type { VirtualProcess } from './virtual-process.ts';

export interface DiskOptions {
  /** Bounds of the time of one write with its fsync, ms. */
  readonly minWriteMs: number;
  readonly maxWriteMs: number;
}

const DEFAULT_DISK: DiskOptions = { minWriteMs: 0.1, maxWriteMs: 8 };

interface Write {
  readonly event: ScheduledEvent;
  readonly apply: () => void;
}

export class MemoryDisk {
  readonly #time: VirtualTime;
  readonly #options: DiskOptions;
  readonly #random: RandomStream;
  readonly #pending = new Map<VirtualProcess, Set<Write>>();

  constructor(time: VirtualTime, seed: number, options: Partial<DiskOptions> = {}) {
    this.#time = time;
    this.#options = { ...DEFAULT_DISK, ...options };
    this.#random = new RandomStream([seed, hashName('memory-disk')]);
  }

  /** @param apply makes the write visible; called at most once @returns resolves when it is on disk */
  write(process: VirtualProcess, label: string, apply: () => void): Promise<void> {
    const { minWriteMs, maxWriteMs } = this.#options;
    const writes = this.#writesOf(process);
    return new Promise((resolve) => {
      const ms = minWriteMs + this.#random.nextFloat() * (maxWriteMs - minWriteMs);
      const what = `${process.name} writes ${label}`;
      const event = this.#time.schedule(ms, what, () => {
        writes.delete(write);
        apply();
        process.enter(what, resolve);
      });
      const write: Write = { event, apply };
      writes.add(write);
    });
  }

  #writesOf(process: VirtualProcess): Set<Write> {
    const known = this.#pending.get(process);
    if (known !== undefined) return known;
    const writes = new Set<Write>();
    this.#pending.set(process, writes);
    process.onCrash(() => {
      for (const { event, apply } of writes) {
        event.cancel();
        if (this.#random.nextBelow(2) === 0) apply();
      }
      this.#pending.delete(process);
    });
    return writes;
  }
}
