/**
 * From generated text, and from an evaluation example, to the values that a metric compares.
 *
 * Source: t5.data.postprocessors (t5 0.9.4), whose two halves (`is_target`) are `target` and `prediction` here.
 */
import type { Grouped, SpanTarget } from './metrics/question-answering.ts';
import type { RankTarget } from './metrics/ranking.ts';
import type { SariTarget } from './metrics/sari.ts';
import type { Slot } from './metrics/spans.ts';
import { parseFloatLikePython, trim } from './metrics/python-text.ts';
import { TrainerError } from '../shared/errors.ts';

export type FieldValue = string | number | boolean | readonly FieldValue[];

/** What an evaluation set keeps of an example beside its inputs. */
export interface EvaluationExample {
  /** All right answers; the first is the target that a model would be trained on. */
  readonly references: readonly string[];
  /** Columns that a post-processor reads: groups, labels, contexts. */
  readonly fields: Readonly<Record<string, FieldValue>>;
}

export interface Postprocessor<Target, Prediction = Target> {
  readonly target: (example: EvaluationExample) => Target;
  readonly prediction: (text: string, example: EvaluationExample) => Prediction;
}

/** @throws TrainerError METRIC_INPUT_INVALID if the example has no such field of that kind */
function readField<Value extends FieldValue>(
  example: EvaluationExample,
  name: string,
  isKind: (value: FieldValue) => value is Value,
): Value {
  const value = example.fields[name];
  if (value !== undefined && isKind(value)) return value;
  throw new TrainerError(
    'METRIC_INPUT_INVALID',
    `expected field "${name}" of the evaluation example, found ${JSON.stringify(value)}; the task's evaluation fields must name it`,
  );
}

const isText = (value: FieldValue): value is string => typeof value === 'string';
const isNumber = (value: FieldValue): value is number => typeof value === 'number';
const isNumberOrText = (value: FieldValue): value is number | string => isText(value) || isNumber(value);

function firstReference(example: EvaluationExample): string {
  return example.references[0] ?? '';
}

/** The text as it is. */
export const plainText: Postprocessor<string> = { target: firstReference, prediction: (text) => text };

/** t5 `lower_text`. */
export const lowerText: Postprocessor<string> = {
  target: (example) => firstReference(example).toLowerCase(),
  prediction: (text) => text.toLowerCase(),
};

/** Index of the label that the text is, or `fallback`; exact comparison. t5 `string_label_to_class_id`. */
export function stringLabelToClassId(labels: readonly string[], fallback = -1): Postprocessor<number> {
  const classId = (text: string): number => {
    const label = labels.indexOf(text);
    return label === -1 ? fallback : label;
  };
  return { target: (example) => classId(firstReference(example)), prediction: classId };
}

/** The number that the text is, or `fallback` (STS-B). t5 `string_to_float`. */
export function stringToFloat(fallback = -1): Postprocessor<number> {
  const toNumber = (text: string): number => parseFloatLikePython(text) ?? fallback;
  return { target: (example) => toNumber(firstReference(example)), prediction: toNumber };
}

/** Word of a target without any label or slot. */
const NONE = 'none';

/** The labels that a text lists, ", " between them; none of them if the text is `none` and no label has that name. */
export function labelNames(labels: readonly string[]): Postprocessor<readonly string[]> {
  const names = (text: string): string[] =>
    text === NONE && !labels.includes(NONE) ? [] : [...new Set(text.split(', '))];
  return { target: (example) => names(firstReference(example)), prediction: names };
}

/** A comma that ends a slot: the name of the next one follows. A value may hold commas too. */
const NEXT_SLOT = /, (?=[^\s,:]+: )/u;

/** `slot: value` pairs with ", " between them, or `none`. A part without a name is a pair whose slot is ''. */
function readSlots(text: string): Slot[] {
  if (text === NONE) return [];
  return text.split(NEXT_SLOT).map((part): Slot => {
    const [slot = '', ...value] = part.split(': ');
    return value.length === 0 ? ['', part] : [slot, value.join(': ')];
  });
}

export const slots: Postprocessor<readonly Slot[]> = {
  target: (example) => readSlots(firstReference(example)),
  prediction: readSlots,
};

interface ExplainedLabels {
  readonly id: number;
  readonly explanations: readonly string[];
}

interface ExplainedLabel {
  readonly id: number;
  readonly explanation: string;
}

/** `label explanation: text`: the class of the label, and the texts. The first reference has the label. After t5 `abstractive_explanations`. */
export function explainedLabel(labels: readonly string[]): Postprocessor<ExplainedLabels, ExplainedLabel> {
  const read = (text: string): ExplainedLabel => {
    const [label = '', ...explanation] = text.split(' explanation: ');
    return { id: labels.indexOf(label), explanation: explanation.join(' explanation: ') };
  };
  return {
    target: (example) => ({
      id: read(firstReference(example)).id,
      explanations: example.references.map((reference) => read(reference).explanation),
    }),
    prediction: read,
  };
}

/** All references and the text of `source` that is to be made simpler (SARI). */
export const simplification: Postprocessor<SariTarget, string> = {
  target: (example) => ({ source: readField(example, 'source', isText), references: example.references }),
  prediction: (text) => text,
};

/** All answers against the text. t5 `qa`. */
export const qa: Postprocessor<readonly string[], string> = {
  target: ({ references }) => references,
  prediction: (text) => text,
};

/** Answers and the context of `context`. t5 `span_qa`. */
export const spanQa: Postprocessor<SpanTarget, string> = {
  target: (example) => ({ answers: example.references, context: readField(example, 'context', isText) }),
  prediction: (text) => text,
};

const MULTIRC_LABELS = stringLabelToClassId(['False', 'True']);

/** Class and question, from field `idx/question`. t5 `multirc`. */
export const multiRcAnswer: Postprocessor<Grouped<number>, { readonly value: number }> = {
  target: (example) => ({
    value: MULTIRC_LABELS.target(example),
    group: readField(example, 'idx/question', isNumberOrText),
  }),
  prediction: (text, example) => ({ value: MULTIRC_LABELS.prediction(text, example) }),
};

/** All answers and the pair of passage and query, from fields `idx/passage` and `idx/query`. t5 `record`. */
export const recordAnswer: Postprocessor<Grouped<readonly string[]>, { readonly value: string }> = {
  target: (example) => ({
    value: example.references,
    group: [readField(example, 'idx/passage', isNumberOrText), readField(example, 'idx/query', isNumberOrText)],
  }),
  prediction: (text) => ({ value: text }),
};

const isBoolean = (value: FieldValue): value is boolean => typeof value === 'boolean';
const isPairOfNumbers = (value: FieldValue): value is readonly [number, number] =>
  Array.isArray(value) && value.length === 2 && value.every((one: FieldValue) => typeof one === 'number');

/**
 * One label of an example whose likelihood is scored: fields `idx` ([example, label]), `is_correct`, and `weight` (1 if left out).
 * t5 `rank_classification`. @param targetLength tokens of the label, EOS included
 */
export function rankTarget(evaluationExample: EvaluationExample, targetLength: number): RankTarget {
  const [example, label] = readField(evaluationExample, 'idx', isPairOfNumbers);
  const isCorrect = readField(evaluationExample, 'is_correct', isBoolean);
  const weight = 'weight' in evaluationExample.fields ? readField(evaluationExample, 'weight', isNumber) : 1;
  return { example, label, isCorrect, weight, targetLength };
}

const DETERMINERS = new Set(
  'a an few her his each every many much my our some that the their these this those which whose your'.split(' '),
);

/** Lower case, without determiners; split at single spaces, so two spaces leave an empty word. */
function cleanReferent(text: string): string {
  return trim(text)
    .toLowerCase()
    .split(' ')
    .filter((word) => !DETERMINERS.has(word))
    .join(' ');
}

/** 1 if the text names the referent (the words of one are among the other's), 0 if not, -1 if nothing is left of the text. */
function namesReferent(text: string, referent: string): number {
  const predicted = cleanReferent(text);
  if (predicted === '') return -1;
  const wanted = cleanReferent(referent);
  // "Bob" does not name "Bob's hat".
  if (predicted.includes("'") !== wanted.includes("'")) return 0;
  const predictedWords = new Set(predicted.split(' '));
  const wantedWords = new Set(wanted.split(' '));
  const isPart = (part: ReadonlySet<string>, whole: ReadonlySet<string>): boolean =>
    [...part].every((word) => whole.has(word));
  return isPart(predictedWords, wantedWords) || isPart(wantedWords, predictedWords) ? 1 : 0;
}

/** WSC: the label of field `label` (1: pronoun and noun mean the same) against whether the text names the referent. t5 `wsc_simple`. */
export const wscSimple: Postprocessor<number> = {
  target: (example) =>
    Number(readField(example, 'label', (value): value is number | boolean => isNumber(value) || isBoolean(value))),
  prediction: (text, example) => namesReferent(text, firstReference(example)),
};
