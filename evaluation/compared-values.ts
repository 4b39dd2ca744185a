/** The values that metrics compare, by kind (shared/task-evaluation.ts). */
import type { ValueKind } from '../shared/task-evaluation.ts';
import type { Grouped, SpanTarget } from './metrics/question-answering.ts';
import type { SariTarget } from './metrics/sari.ts';
import type { Slot } from './metrics/spans.ts';

interface Pair<Target, Prediction = Target> {
  readonly target: Target;
  readonly prediction: Prediction;
}

interface ComparedValues {
  /** Equal or not; -1 means a text that names no label. */
  readonly label: Pair<number | string>;
  readonly class: Pair<number>;
  readonly labels: Pair<readonly string[]>;
  readonly number: Pair<number>;
  readonly text: Pair<string>;
  readonly references: Pair<readonly string[], string>;
  readonly simplification: Pair<SariTarget, string>;
  readonly span: Pair<SpanTarget, string>;
  readonly 'grouped class': Pair<Grouped<number>, { readonly value: number }>;
  readonly 'grouped references': Pair<Grouped<readonly string[]>, { readonly value: string }>;
  readonly slots: Pair<readonly Slot[]>;
}

export type TargetOf<Kind extends ValueKind> = ComparedValues[Kind]['target'];
export type PredictionOf<Kind extends ValueKind> = ComparedValues[Kind]['prediction'];

/** The targets of an example, one for each kind. */
export type Targets<Kind extends ValueKind = ValueKind> = { readonly [Each in Kind]: TargetOf<Each> };
export type Predictions<Kind extends ValueKind = ValueKind> = { readonly [Each in Kind]: PredictionOf<Each> };
