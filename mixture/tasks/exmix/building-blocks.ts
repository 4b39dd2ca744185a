/** The shapes that tasks come in. A task of the table calls one of these; what it adds is its templates and columns. */
import { rootsOf, valueAt, type Derivation } from './derivation.ts';
import type { Expansion } from './expansions.ts';
import { className, oneOf } from './label-derivations.ts';
import type { RowFilter, Rule } from './rule.ts';
import { firstOf, firstPadded, padded } from './text-derivations.ts';

type Derivations = Readonly<Record<string, Derivation>>;

/** Text → text: translations between styles, generation, anything with two templates. */
export function rewrite(inputs: string, targets: string, derive: Derivations = {}, each?: Expansion): Rule {
  return { inputs, targets, labels: [], derive, ...(each === undefined ? {} : { each }) };
}

/** Classification: the target is the name of a class, whose index is in a column; -1 gives `<unk>`. */
export function labelTask(inputs: string, names: readonly string[], derive: Derivations = {}, column = 'label'): Rule {
  return { inputs, targets: '{label}', labels: names, derive: { ...derive, label: className(column, names) } };
}

/** Classification by a label of its own kind: a threshold, flags, a text. */
export function namedLabel(inputs: string, labels: readonly string[], label: Derivation): Rule {
  return { inputs, targets: '{label}', labels, derive: { label } };
}

/** A choice among texts that are in the inputs; the target is the label as the set writes it (a digit, a letter). */
export function multipleChoice(
  inputs: string,
  choices: readonly string[],
  column: string,
  derive: Derivations = {},
): Rule {
  return { inputs, targets: '{choice}', labels: choices, derive: { ...derive, choice: oneOf(column, choices) } };
}

/** A question, on a text or from what the model knows; the target is the first gold answer. */
export function spanQuestion(inputs: string, answersPath: string): Rule {
  return rewrite(inputs, '{answer}', { answer: firstOf(answersPath) });
}

/** T5's SQuAD: question, context and answer with spaces around punctuation. */
export function paddedSpanQuestion(inputs: string, answersPath: string): Rule {
  return rewrite(inputs, '{answer}', {
    question: padded('question'),
    context: padded('context'),
    answer: firstPadded(answersPath),
  });
}

/** A long text and its short form. */
export function summarize(prefix: string, document: string, summary: string): Rule {
  return rewrite(`${prefix} {${document}}`, `{${summary}}`);
}

/** Only rows with this value in a column give examples. */
export function rowsWith(path: string, value: string): RowFilter {
  return {
    identity: { step: 'rowsWith', version: 1, path, value },
    words: `only those with ${path} = ${value}`,
    columns: rootsOf([path]),
    keeps: (fields) => String(valueAt(fields, path)).trim() === value,
  };
}
