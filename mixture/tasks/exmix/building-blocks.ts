/** The common shapes of a task. A task of the table calls one of them and adds its templates and columns. */
import { rootsOf, valueAt, type Derivation } from './derivation.ts';
import type { Expansion } from './expansions.ts';
import { className, oneOf } from './label-derivations.ts';
import type { RowFilter, Rule } from './rule.ts';
import { firstOf, firstPadded, padded } from './text-derivations.ts';

type Derivations = Readonly<Record<string, Derivation>>;

/** Text → text, with two templates: style transfer, generation, and others. */
export function rewrite(inputs: string, targets: string, derive: Derivations = {}, each?: Expansion): Rule {
  return { inputs, targets, labels: [], derive, ...(each === undefined ? {} : { each }) };
}

/** Classification: a column holds the index of a class, and the target is the name of that class. -1 gives `<unk>`. */
export function labelTask(inputs: string, names: readonly string[], derive: Derivations = {}, column = 'label'): Rule {
  return { inputs, targets: '{label}', labels: names, derive: { ...derive, label: className(column, names) } };
}

/** Classification whose label is not an index: a threshold, flags, a text. */
export function namedLabel(inputs: string, labels: readonly string[], label: Derivation): Rule {
  return { inputs, targets: '{label}', labels, derive: { label } };
}

/**
 * A choice among texts that are part of the inputs. The target is the label as the set writes it (a digit, a letter).
 */
export function multipleChoice(
  inputs: string,
  choices: readonly string[],
  column: string,
  derive: Derivations = {},
): Rule {
  return { inputs, targets: '{choice}', labels: choices, derive: { ...derive, choice: oneOf(column, choices) } };
}

/** A question, with a text or without one. The target is the first gold answer. */
export function spanQuestion(inputs: string, answersPath: string): Rule {
  return rewrite(inputs, '{answer}', { answer: firstOf(answersPath) });
}

/** T5's SQuAD rule: question, context and answer have spaces around punctuation. */
export function paddedSpanQuestion(inputs: string, answersPath: string): Rule {
  return rewrite(inputs, '{answer}', {
    question: padded('question'),
    context: padded('context'),
    answer: firstPadded(answersPath),
  });
}

/** Summarization: a long text gives a short one. */
export function summarize(prefix: string, document: string, summary: string): Rule {
  return rewrite(`${prefix} {${document}}`, `{${summary}}`);
}

/** Keeps the rows that have this value in a column. */
export function rowsWith(path: string, value: string): RowFilter {
  return {
    identity: { step: 'rowsWith', version: 1, path, value },
    words: `only rows with ${path} = ${value}`,
    columns: rootsOf([path]),
    keeps: (fields) => String(valueAt(fields, path)).trim() === value,
  };
}
