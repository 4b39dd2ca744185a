/** The post-processors that a task may name. The compiler checks that each gives the kinds of values that its row in POSTPROCESSORS lists. */
import type { POSTPROCESSORS } from '../shared/task-evaluation.ts';
import { type Postprocess, type PostprocessorName } from '../shared/task-evaluation.ts';
import type { Predictions, Targets } from './compared-values.ts';
import {
  explainedLabel,
  labelNames,
  lowerText,
  multiRcAnswer,
  plainText,
  qa,
  recordAnswer,
  simplification,
  slots,
  spanQa,
  stringLabelToClassId,
  stringToFloat,
  wscSimple,
  type EvaluationExample,
  type Postprocessor,
} from './postprocess.ts';

type KindOf<Name extends PostprocessorName> = (typeof POSTPROCESSORS)[Name]['kinds'][number];

/** A post-processor whose values a metric picks by kind. */
export interface NamedPostprocessor<TargetValues, PredictionValues> {
  readonly target: (example: EvaluationExample) => TargetValues;
  readonly prediction: (text: string, example: EvaluationExample) => PredictionValues;
  /** Whether the text names no value: no label, no number. Such a text is scored as wrong, and counted. */
  readonly isInvalid: (text: string, example: EvaluationExample) => boolean;
}

type ByName = {
  readonly [Name in PostprocessorName]: (
    postprocess: Postprocess,
  ) => NamedPostprocessor<Targets<KindOf<Name>>, Predictions<KindOf<Name>>>;
};

function named<Target, Prediction, TargetValues, PredictionValues>(
  { target, prediction }: Postprocessor<Target, Prediction>,
  targets: (value: Target) => TargetValues,
  predictions: (value: Prediction) => PredictionValues,
  isInvalid: (value: Prediction) => boolean = () => false,
): NamedPostprocessor<TargetValues, PredictionValues> {
  return {
    target: (example) => targets(target(example)),
    prediction: (text, example) => predictions(prediction(text, example)),
    isInvalid: (text, example) => isInvalid(prediction(text, example)),
  };
}

const texts = (postprocessor: Postprocessor<string>) =>
  named(
    postprocessor,
    (text) => ({ text, label: text, references: [text] }),
    (text) => ({ text, label: text, references: text }),
  );

const classes = (postprocessor: Postprocessor<number>) =>
  named(
    postprocessor,
    (id) => ({ class: id, label: id }),
    (id) => ({ class: id, label: id }),
    (id) => id === -1,
  );

export const POSTPROCESSORS_BY_NAME: ByName = {
  text: () => texts(plainText),
  lower_text: () => texts(lowerText),
  references: () =>
    named(
      qa,
      (references) => ({ references }),
      (references) => ({ references }),
    ),
  string_label_to_class_id: ({ labels = [] }) => classes(stringLabelToClassId(labels)),
  string_to_float: () =>
    named(
      stringToFloat(),
      (number) => ({ number }),
      (number) => ({ number }),
      (number) => number === -1,
    ),
  span_qa: () =>
    named(
      spanQa,
      (span) => ({ span }),
      (span) => ({ span }),
    ),
  multirc: () =>
    named(
      multiRcAnswer,
      (answer) => ({ 'grouped class': answer }),
      (answer) => ({ 'grouped class': answer }),
      ({ value }) => value === -1,
    ),
  record: () =>
    named(
      recordAnswer,
      (answer) => ({ 'grouped references': answer }),
      (answer) => ({ 'grouped references': answer }),
    ),
  wsc_simple: () => classes(wscSimple),
  label_names: ({ labels = [] }) =>
    named(
      labelNames(labels),
      (names) => ({ labels: names }),
      (names) => ({ labels: names }),
      (names) => names.some((name) => !labels.includes(name)),
    ),
  slots: () =>
    named(
      slots,
      (pairs) => ({ slots: pairs }),
      (pairs) => ({ slots: pairs }),
      (pairs) => pairs.some(([slot]) => slot === ''),
    ),
  explained_label: ({ labels = [] }) =>
    named(
      explainedLabel(labels),
      ({ id, explanations }) => ({ class: id, label: id, references: explanations }),
      ({ id, explanation }) => ({ class: id, label: id, references: explanation }),
      ({ id }) => id === -1,
    ),
  simplification: () =>
    named(
      simplification,
      (target) => ({ simplification: target, references: target.references }),
      (text) => ({ simplification: text, references: text }),
    ),
};
