/**
 * A rule: two templates, the derivations that fill their placeholders, and the preprocessor made from them. Rules are
 * data in the table of tasks. No other code turns a record of ExMix into text.
 *
 * Order: `apply` checks the columns. It leaves out rows that `keep` refuses. Derivations fill placeholders from the
 * columns; `each` gives one or several sets of values that replace them. Then it renders both templates; a template
 * whose placeholders are all blank is malformed.
 */
import { parseTemplate, renderTemplate } from '../template.ts';
import type { Preprocessed, Preprocessor, SourceFields, TextPair } from '../task.ts';
import { createColumnCheck, type Columns } from './column-type.ts';
import { NO_LABEL, type Derivation, type Identity } from './derivation.ts';
import type { Expansion } from './expansions.ts';

/** Selects the rows that give examples. */
export interface RowFilter {
  readonly identity: Identity;
  readonly words: string;
  readonly columns: readonly string[];
  keeps(fields: SourceFields): boolean;
}

export interface Rule {
  /** A template. A placeholder is a derivation, a value of `each`, or an unchanged column. */
  readonly inputs: string;
  readonly targets: string;
  /** All possible targets, or empty. If not empty, any other target except `<unk>` is malformed. */
  readonly labels: readonly string[];
  readonly derive: Readonly<Record<string, Derivation>>;
  readonly each?: Expansion;
  readonly keep?: RowFilter;
}

/** What a rule does besides its templates, one line for each step, for listings. */
export function describeSteps({ derive, each, keep }: Rule): string[] {
  const steps = Object.entries(derive).map(([name, { words }]) => `{${name}}: ${words}`);
  return [
    ...(keep === undefined ? [] : [`rows: ${keep.words}`]),
    ...(each === undefined ? [] : [each.words]),
    ...steps,
  ];
}

/** @throws CONFIG_INVALID for an invalid template */
export function createRulePreprocessor(rule: Rule, columns: Columns): Preprocessor {
  const inputs = parseTemplate(rule.inputs);
  const targets = parseTemplate(rule.targets);
  const checkColumns = createColumnCheck(columns);
  const derivations = Object.entries(rule.derive);
  const allowed = new Set([...rule.labels, NO_LABEL]);
  const isAllowed = (text: string) => rule.labels.length === 0 || allowed.has(text);
  return {
    identity: identityOf(rule, columns),
    fields: Object.keys(columns),
    apply(fields): Preprocessed {
      const problem = checkColumns(fields);
      if (problem !== undefined) return { ok: false, reason: problem };
      if (rule.keep?.keeps(fields) === false) return { ok: true, examples: [] };
      const derived: Record<string, unknown> = { ...fields };
      for (const [name, derivation] of derivations) {
        const text = derivation.derive(fields);
        if (!text.ok) return text;
        derived[name] = text.text;
      }
      const expanded = rule.each?.expand(fields) ?? { ok: true, examples: [{}] };
      if (!expanded.ok) return expanded;
      const examples: TextPair[] = [];
      for (const values of expanded.examples) {
        const placeholders = { ...derived, ...values };
        const inputsText = renderTemplate(inputs, placeholders);
        if (!inputsText.ok) return { ok: false, reason: `inputs: ${inputsText.reason}` };
        const targetsText = renderTemplate(targets, placeholders);
        if (!targetsText.ok) return { ok: false, reason: `targets: ${targetsText.reason}` };
        if (!isAllowed(targetsText.text)) return unknownLabel(targetsText.text, rule.labels);
        examples.push({ inputs: inputsText.text, targets: targetsText.text });
      }
      return { ok: true, examples };
    },
  };
}

function unknownLabel(text: string, labels: readonly string[]): Preprocessed {
  return { ok: false, reason: `targets: unknown label "${text.slice(0, 60)}"; expected one of ${labels.join(', ')}` };
}

function identityOf(rule: Rule, columns: Columns): Preprocessor['identity'] {
  return {
    kind: 'rule',
    columns,
    inputs: rule.inputs,
    targets: rule.targets,
    labels: rule.labels,
    derive: Object.fromEntries(Object.entries(rule.derive).map(([name, { identity }]) => [name, identity])),
    each: rule.each?.identity ?? null,
    keep: rule.keep?.identity ?? null,
  };
}
