/**
 * From generated text to the value that a metric compares. Source: t5.data.postprocessors (t5 0.9.4).
 */
import { trim } from './metrics/python-text.ts';
import { parseFloatLikePython } from './metrics/python-text.ts';

/** Index of the label that the text is, or `fallback`; exact comparison. t5 `string_label_to_class_id`. */
export function stringLabelToClassId(text: string, labels: readonly string[], fallback = -1): number {
  const label = labels.indexOf(text);
  return label === -1 ? fallback : label;
}

/** The number that the text is, or `fallback`. t5 `string_to_float`. */
export function stringToFloat(text: string, fallback = -1): number {
  return parseFloatLikePython(text) ?? fallback;
}

/** t5 `lower_text`. */
export function lowerText(text: string): string {
  return text.toLowerCase();
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

/**
 * WSC: 1 if the text names the referent (one is part of the other), 0 if not, -1 if nothing is left of the text. "Bob" does not name "Bob's hat".
 * The metric compares it with the label of the example (1: pronoun and noun mean the same). t5 `wsc_simple`.
 */
export function wscSimple(text: string, referent: string): -1 | 0 | 1 {
  const predicted = cleanReferent(text);
  if (predicted === '') return -1;
  const wanted = cleanReferent(referent);
  if (predicted.includes("'") !== wanted.includes("'")) return 0;
  const predictedWords = new Set(predicted.split(' '));
  const wantedWords = new Set(wanted.split(' '));
  const isPart = (part: ReadonlySet<string>, whole: ReadonlySet<string>): boolean =>
    [...part].every((word) => whole.has(word));
  return isPart(predictedWords, wantedWords) || isPart(wantedWords, predictedWords) ? 1 : 0;
}
