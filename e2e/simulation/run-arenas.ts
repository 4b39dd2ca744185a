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
    for (const arena of this.#used.values()) ARENAS.give(arena);
    this.#used.clear();
  }
}

class WorkerArenas extends ArenaPool {
  readonly #onTake: (arena: Arena) => void;
  #numGiven = 0;

  constructor(onTake: (arena: Arena) => void) {
    super(MAX_ARENAS);
    this.#onTake = onTake;
  }

  override take(layout: ArenaLayout): Arena {
    const arena = this.#numGiven > 0 ? super.take(layout) : ARENAS.take(layout);
    this.#numGiven = Math.max(0, this.#numGiven - 1);
    this.#onTake(arena);
    return arena;
  }

  override give(arena: Arena): void {
    super.give(arena);
    this.#numGiven += 1;
  }
}
