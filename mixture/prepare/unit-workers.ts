/**
 * Makes units through workers. A free worker gets the next unit. A dead worker is replaced, and its unit is made again.
 */
import { abortedError } from '../../shared/abort.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { ensureUnit, type EnsuredUnit, type UnitContext, type UnitOrder, type UnitProgress } from './ensure-unit.ts';
import { MAX_ATTEMPTS, UnitQueue, type QueuedUnit } from './unit-queue.ts';

/** Makes one unit at a time. */
export interface UnitWorker {
  /** @throws WORKER_LOST if its process ended. Another worker is needed then. */
  ensure(order: UnitOrder, onProgress: (progress: UnitProgress) => void): Promise<EnsuredUnit>;
  /** Aborts the unit that it makes, and ends. */
  stop(): Promise<void>;
}

export interface PlannedUnit extends QueuedUnit {
  readonly order: UnitOrder;
}

export interface RunUnitsInit {
  readonly units: readonly PlannedUnit[];
  readonly numWorkers: number;
  readonly createWorker: () => UnitWorker;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress: (unit: PlannedUnit, progress: UnitProgress) => void;
  /** An exception counts as a failure of the unit. */
  readonly onDone: (unit: PlannedUnit, ensured: EnsuredUnit) => Promise<void>;
  /** The process of this unit died. @param next what happens to the unit */
  readonly onDeath: (unit: PlannedUnit, reason: string, next: 'again' | 'given up') => Promise<void>;
  /** A unit cannot be made. @returns true if only its task fails; false if all work ends with this error */
  readonly onFailed: (unit: PlannedUnit, error: TrainerError) => boolean;
}

/** Makes all units that can be made. @throws the first error that concerns more than one task; ABORTED */
export async function runUnits(init: RunUnitsInit): Promise<void> {
  const { units, numWorkers, createWorker, signal, onProgress, onDone, onDeath, onFailed } = init;
  const queue = new UnitQueue(units);
  const workers = new Set<UnitWorker>();
  let fatal: TrainerError | undefined;
  const stopAll = (): void => {
    for (const worker of workers) void worker.stop();
  };
  const abort = (): void => {
    fatal ??= abortedError('preparing', signal);
    stopAll();
  };
  if (signal?.aborted === true) abort();
  signal?.addEventListener('abort', abort);

  const fail = (unit: PlannedUnit, error: TrainerError): void => {
    if (fatal !== undefined) return;
    if (onFailed(unit, error)) {
      queue.dropTask(unit.task);
      return;
    }
    fatal = error;
    stopAll();
  };
  const work = async (): Promise<void> => {
    let worker: UnitWorker | undefined;
    for (;;) {
      const unit = fatal === undefined ? queue.next() : undefined;
      if (unit === undefined) break;
      worker ??= createWorker();
      workers.add(worker);
      try {
        const ensured = await worker.ensure(unit.order, (progress) => onProgress(unit, progress));
        await onDone(unit, ensured);
      } catch (thrown) {
        const error = toTrainerError(thrown);
        if (error.code !== 'WORKER_LOST' || fatal !== undefined) {
          fail(unit, error);
          continue;
        }
        workers.delete(worker);
        worker = undefined;
        const next = queue.died(unit);
        await onDeath(unit, error.message, next);
        if (next === 'given up')
          fail(
            unit,
            new TrainerError(
              'WORKER_LOST',
              `task ${unit.task} unit ${unit.number}: ${MAX_ATTEMPTS} processes ended while making it; the last: ${error.message}; ` +
                'if they ran out of memory, use fewer --processes',
            ),
          );
      }
    }
    if (worker !== undefined) await worker.stop();
  };
  try {
    await Promise.all(Array.from({ length: numWorkers }, work));
  } finally {
    signal?.removeEventListener('abort', abort);
    await Promise.all([...workers].map((worker) => worker.stop()));
  }
  if (fatal !== undefined) throw fatal;
}

/** Makes units in this process: for little work, or if no child is wanted. */
export class LocalWorker implements UnitWorker {
  readonly #context: UnitContext;
  readonly #interrupt = new AbortController();

  constructor(context: UnitContext) {
    this.#context = context;
  }

  ensure(order: UnitOrder, onProgress: (progress: UnitProgress) => void): Promise<EnsuredUnit> {
    return ensureUnit(order, this.#context, { signal: this.#interrupt.signal, onProgress });
  }

  stop(): Promise<void> {
    this.#interrupt.abort('stopped');
    return Promise.resolve();
  }
}
