/**
 * Derivations from values to label texts: class names, `<unk>` for a missing label, flags, thresholds, T5's rounding of
 * STS-B.
 */
import { normalizeWhitespace, quotedHint, type Rendered } from '../template.ts';
import {
  asInteger,
  integerAt,
  listAt,
  NO_LABEL,
  rootsOf,
  textAt,
  textDerivation,
  valueAt,
  type Derivation,
} from './derivation.ts';

/** The name of a class. Labels are indices into `names`; -1 means no label and gives `<unk>`, as in T5. */
export function className(path: string, names: readonly string[]): Derivation {
  return {
    identity: { step: 'className', version: 1, path, names: [...names] },
    words: `${path} → ${names.map((name, i) => `${i} ${name}`).join(', ')}; -1 ${NO_LABEL}`,
    columns: rootsOf([path]),
    derive: (fields) => nameOf(integerAt(fields, path), path, names),
  };
}

/** The names of several classes, joined by ", ". */
export function classNames(path: string, names: readonly string[]): Derivation {
  return {
    identity: { step: 'classNames', version: 1, path, names: [...names] },
    words: `the names of ${path}, joined by ", "`,
    columns: rootsOf([path]),
    derive(fields) {
      const chosen: string[] = [];
      for (const value of listAt(fields, path)) {
        const name = nameOf(asInteger(value, path), path, names);
        if (!name.ok) return name;
        chosen.push(name.text);
      }
      return { ok: true, text: chosen.join(', ') };
    },
  };
}

/** Values that a set defines itself → words: `{ 0: 'negative', 4: 'positive' }`. */
export function valueName(path: string, names: Readonly<Record<string, string>>): Derivation {
  const words = Object.entries(names).map(([value, name]) => `${value} ${name}`);
  return {
    identity: { step: 'valueName', version: 1, path, names },
    words: `${path} → ${words.join(', ')}`,
    columns: rootsOf([path]),
    derive(fields) {
      const value = String(valueAt(fields, path));
      const name = Object.hasOwn(names, value) ? names[value] : undefined;
      return name === undefined
        ? { ok: false, reason: `column "${path}": unknown label ${value}; expected ${words.join(', ')}` }
        : { ok: true, text: name };
    },
  };
}

/** A label that is one of a few texts (or digits). -1 gives `<unk>`. */
export function oneOf(path: string, choices: readonly string[]): Derivation {
  return {
    identity: { step: 'oneOf', version: 1, path, choices: [...choices] },
    words: `${path} is one of ${choices.join(', ')}; -1 ${NO_LABEL}`,
    columns: rootsOf([path]),
    derive(fields) {
      const text = normalizeWhitespace(textAt(fields, path));
      if (choices.includes(text)) return { ok: true, text };
      return text === '-1' ? { ok: true, text: NO_LABEL } : unknownLabel(path, text, choices);
    },
  };
}

/** The names of the columns that are 1 or true, or `none`. */
export function flagNames(columns: readonly string[], none: string): Derivation {
  return textDerivation(
    { step: 'flagNames', version: 1, columns: [...columns], none },
    `those of ${columns.join(', ')} that are 1, joined by ", ", or ${none}`,
    columns,
    (fields) => columns.filter((name) => ['1', 'true'].includes(textAt(fields, name).trim())).join(', ') || none,
  );
}

/** One word for scores from a limit on, another for scores below it. */
export function threshold(path: string, limit: number, from: string, below: string): Derivation {
  return textDerivation(
    { step: 'threshold', version: 1, path, limit, from, below },
    `${from} where ${path} ≥ ${limit}, else ${below}`,
    [path],
    (fields) => (Number(valueAt(fields, path)) >= limit ? from : below),
  );
}

/**
 * T5's STS-B rule: the nearest multiple of 0.2, with one decimal. Computed in float32; ties go to the even multiple.
 */
export function roundToFifth(score: number): string {
  const fifths = Math.fround(Math.fround(score) * 5);
  const floor = Math.floor(fifths);
  const rest = fifths - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
  return (rounded / 5).toFixed(1);
}

export function fifths(path: string): Derivation {
  return textDerivation({ step: 'fifths', version: 1, path }, `${path} rounded to the nearest 0.2`, [path], (fields) =>
    roundToFifth(Number(valueAt(fields, path))),
  );
}

function nameOf(index: number, path: string, names: readonly string[]): Rendered {
  if (index === -1) return { ok: true, text: NO_LABEL };
  const text = names[index];
  if (text !== undefined) return { ok: true, text };
  const known = names.length > 12 ? `${names.length} labels` : names.join(', ');
  return {
    ok: false,
    reason: `column "${path}": unknown label ${index}; expected -1 to ${names.length - 1} (${known})`,
  };
}

function unknownLabel(path: string, text: string, choices: readonly string[]): Rendered {
  const hint = quotedHint(text, choices, `expected one of ${choices.join(', ')}`);
  return { ok: false, reason: `column "${path}": unknown label "${text.slice(0, 60)}"; ${hint}` };
}
