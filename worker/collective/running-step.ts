/** The promise of a step's all-reduce while it is under way, its tally, and the signal that it is over. */
import type { TrainerError } from '../../shared/errors.ts';
import type { StepResult, StepTally } from './step-tally.ts';

export class RunningStep {
  readonly tally: StepTally;
  readonly result: Promise<StepResult>;
  readonly settled: Promise<void>;
  readonly #over = new AbortController();
  #resolve!: (result: StepResult) => void;
  #reject!: (error: TrainerError) => void;

  constructor(tally: StepTally) {
    this.tally = tally;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The caller has the promise; one that looks later must not crash the process meanwhile.
    this.settled = this.result.then(
      () => undefined,
      () => undefined,
    );
  }

  get over(): AbortSignal {
    return this.#over.signal;
  }

  resolve(result: StepResult): void {
    this.#resolve(result);
    this.#over.abort();
  }

  reject(error: TrainerError): void {
    this.#reject(error);
    this.#over.abort();
  }
}
