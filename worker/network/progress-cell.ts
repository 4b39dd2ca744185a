/**
 * Progress of the compute thread in shared memory. That thread blocks for whole microbatches, so the network thread reads the content of its
 * heartbeats here. Alive (heartbeats come) and progressing (the counter moves) are two different clocks.
 */
import { workerPhaseSchema, type WorkerPhase } from '../../shared/protocol/messages.ts';

const PHASES = workerPhaseSchema.options;
const COUNTER = 0;
const PHASE = 1;
const STEP = 2;

export class ProgressCell {
  readonly memory: SharedArrayBuffer;
  readonly #cells: Int32Array;

  /** @param memory of another thread's cell */
  constructor(memory = new SharedArrayBuffer(12)) {
    this.memory = memory;
    this.#cells = new Int32Array(memory);
  }

  /** Compute thread: counts one unit of work. @param step updates applied so far */
  advance(phase: WorkerPhase, step: number): void {
    Atomics.store(this.#cells, PHASE, PHASES.indexOf(phase));
    Atomics.store(this.#cells, STEP, step);
    Atomics.add(this.#cells, COUNTER, 1);
  }

  /** Network thread. */
  read(): { readonly progress: number; readonly phase: WorkerPhase; readonly step: number } {
    const progress = Atomics.load(this.#cells, COUNTER) >>> 0;
    return { progress, phase: PHASES[Atomics.load(this.#cells, PHASE)]!, step: Atomics.load(this.#cells, STEP) };
  }
}
