/**
 * A model that learns nothing: the loss of each of the last FLAT_STEPS steps is that of uniform guesses over the vocabulary, ln(vocabSize).
 * Pure, but for the log.
 */
import type { Logger } from '../../shared/logger.ts';
import type { CommitObserver } from '../step/committer.ts';
import type { StepSummary } from '../step/open-steps.ts';

export const FLAT_STEPS = 50;
/** Largest distance from ln(vocabSize), as a share of it. */
const TOLERANCE = 0.01;

export class FlatLossWatch implements CommitObserver {
  readonly #uniformLoss: number;
  readonly #log: Pick<Logger, 'warn'>;
  #numFlat = 0;

  constructor(vocabSize: number, log: Pick<Logger, 'warn'>) {
    this.#uniformLoss = Math.log(vocabSize);
    this.#log = log;
  }

  /** Warns once for each series of steps. */
  onCommit({ step, loss }: Pick<StepSummary, 'step' | 'loss'>): void {
    const isFlat = Math.abs(loss - this.#uniformLoss) <= TOLERANCE * this.#uniformLoss;
    this.#numFlat = isFlat ? this.#numFlat + 1 : 0;
    if (this.#numFlat !== FLAT_STEPS) return;
    const reason =
      `the loss of each of the last ${FLAT_STEPS} steps is ln(vocabulary) = ${this.#uniformLoss.toFixed(2)} within 1 %: ` +
      'the model guesses; look at the learning rate, and at what it sees (exmix ledger show, exmix tasks show)';
    this.#log.warn({ step, loss, reason }, 'model learns nothing');
  }
}
