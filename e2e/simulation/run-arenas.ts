/**
 * The gradient memories of one simulated run. Each reserves gigabytes of addresses, and thousands of runs in one process would use them up:
 * what a run has used is used again by the next one. Inside a run a worker never gets the memory of another one, which may still write to
 * it: a worker's engine computes on for a moment after its generation has ended.
 */
import { type Arena, type ArenaLayout, ArenaPool } from '../../worker/arena/arena.ts';

const MOST_KEPT = 64;
/** Of all runs of this process. */
const ARENAS = new ArenaPool(MOST_KEPT);

export class RunArenas {
  readonly #used = new Map<WebAssembly.Memory, Arena>();

  /** For one process of a worker: it takes back what it has given. */
  ofWorker(): ArenaPool {
    return new WorkerArenas((arena) => this.#used.set(arena.memory, arena));
  }

  /** Nothing of the run is driven any more. */
  reclaim(): void {
    for (const arena of this.#used.values()) ARENAS.release(arena);
    this.#used.clear();
  }
}

class WorkerArenas extends ArenaPool {
  readonly #onAcquire: (arena: Arena) => void;
  #numGiven = 0;

  constructor(onAcquire: (arena: Arena) => void) {
    super(MOST_KEPT);
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
