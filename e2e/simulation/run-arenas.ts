/**
 * The gradient memories of one simulated run. Each reserves gigabytes of addresses, so later runs in the same process reuse them. Within a
 * run, a worker never gets the memory of another worker: that worker's engine may still write to it for a moment after its generation ended.
 */
import { type Arena, type ArenaLayout, ArenaPool } from '../../worker/arena/arena.ts';

const MAX_ARENAS = 64;
/** Shared by all runs of this process. */
const ARENAS = new ArenaPool(MAX_ARENAS);

export class RunArenas {
  readonly #used = new Map<WebAssembly.Memory, Arena>();

  /** The pool of one worker process: it gets back only its own arenas. */
  ofWorker(): ArenaPool {
    return new WorkerArenas((arena) => this.#used.set(arena.memory, arena));
  }

  /** Frees all arenas of the run. Call it after the end of the run. */
  reclaim(): void {
    for (const arena of this.#used.values()) ARENAS.release(arena);
    this.#used.clear();
  }
}

class WorkerArenas extends ArenaPool {
  readonly #onAcquire: (arena: Arena) => void;
  #numGiven = 0;

  constructor(onAcquire: (arena: Arena) => void) {
    super(MAX_ARENAS);
    this.#onAcquire = onAcquire;
  }

  override acquire(layout: ArenaLayout): Arena {
    const arena = this.#numGiven > 0 ? super.acquire(layout) : ARENAS.acquire(layout);
    this.#numGiven = Math.max(0, this.#numGiven - 1);
    this.#onAcquire(arena);
    return arena;
  }

  override release(arena: Arena): void {
    super.release(arena);
    this.#numGiven += 1;
  }
}
