/** What the ledger holds of a committed step: the vocabulary of this room. */
import type { PlannedExample } from '../../mixture/plan/planned-rows.ts';

/** An example as it was trained on. */
export interface DrawnExample extends PlannedExample {
  /** Which draw of its task it was, from 0; −1 where the task has no such example (draw-numbers.ts). */
  readonly draw: number;
}

/** Lane → row → examples in their order. */
export type Lanes<Example> = readonly (readonly (readonly Example[])[])[];

/** One task in one step. */
export interface TaskFigures {
  /** Number of the task in the mixture. */
  readonly task: number;
  readonly numExamples: number;
  /** Tokens of its examples, EOS included. */
  readonly inputTokens: number;
  readonly targetTokens: number;
  /** Mean per target token, nats, to 16 significant bits; absent where no rank that reported had the task. */
  readonly loss?: number;
}

/** A committed step but for its rows. One that was skipped has learning rate 0, and so have digest, loss and norm: no update is like that. */
export interface StepFigures {
  readonly step: number;
  readonly generation: number;
  /** CRC-32 of the summed gradient. */
  readonly gradDigest: number;
  /** Mean per target token, nats. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** The tasks that are in the step, by number. */
  readonly tasks: readonly TaskFigures[];
}

export interface LedgerStep extends StepFigures {
  readonly lanes: Lanes<DrawnExample>;
}

/** What is given to the ledger: draw numbers are its own affair. */
export interface StepToRecord extends StepFigures {
  readonly lanes: Lanes<PlannedExample>;
}
