/**
 * Derivations that select, join and clean text. Some are T5 rules (t5/data/preprocessors.py): punctuation of SQuAD,
 * highlights of ReCoRD, HTML tags of MultiRC.
 */
import { normalizeWhitespace } from '../template.ts';
import { listRoot, rootsOf, textAt, textDerivation, textsAt, type Derivation } from './derivation.ts';

/** The text at a path: `answer.value`. */
export function member(path: string): Derivation {
  return textDerivation({ step: 'member', path }, path, [path], (fields) => textAt(fields, path));
}

/**
 * The first text of a list that is not blank: the gold answer of sets with several answers. Malformed if all are blank.
 */
export function firstOf(path: string): Derivation {
  return {
    identity: { step: 'first', version: 1, path },
    words: `the first of ${path} that is not blank`,
    columns: rootsOf([listRoot(path)]),
    derive(fields) {
      const texts = textsAt(fields, path);
      const text = texts.find((candidate) => candidate.trim() !== '');
      if (text !== undefined) return { ok: true, text };
      const found = texts.length === 0 ? 'an empty list' : `${texts.length} blank`;
      return { ok: false, reason: `column "${path}": expected at least one text, found ${found}` };
    },
  };
}

/** All texts of a list, joined by `separator`. */
export function joined(path: string, separator: string): Derivation {
  return textDerivation(
    { step: 'joined', version: 1, path, separator },
    `${path} joined by "${separator}"`,
    [listRoot(path)],
    (fields) => textsAt(fields, path).join(separator),
  );
}

/** The choices of a question, each after its letter: `(A) … (B) …`. */
export function lettered(path: string): Derivation {
  return textDerivation({ step: 'lettered', version: 1, path }, `${path}, each after (A), (B), …`, [path], (fields) =>
    textsAt(fields, path)
      .map((text, i) => `(${String.fromCharCode(65 + i)}) ${text}`)
      .join(' '),
  );
}

/** The choices of a question, each after its number: `ending0: … ending1: …`. */
export function numbered(path: string, name: string): Derivation {
  return textDerivation(
    { step: 'numbered', version: 1, path, name },
    `${path}, each after ${name}0:, ${name}1:, …`,
    [path],
    (fields) =>
      textsAt(fields, path)
        .map((text, i) => `${name}${i}: ${text}`)
        .join(' '),
  );
}

/** T5's SQuAD rule: a space on both sides of each ASCII punctuation mark. */
export function padPunctuation(text: string): string {
  return normalizeWhitespace(text.replace(/ ?([!-/:-@[-`{-~]) ?/gu, ' $1 '));
}

export function padded(path: string): Derivation {
  return textDerivation(
    { step: 'padded', version: 1, path },
    `${path} with spaces around punctuation`,
    [path],
    (fields) => padPunctuation(textAt(fields, path)),
  );
}

/** The first gold answer, `padded`. */
export function firstPadded(path: string): Derivation {
  const first = firstOf(path);
  return {
    identity: { step: 'firstPadded', version: 1, path },
    words: `${first.words}, with spaces around punctuation`,
    columns: first.columns,
    derive(fields) {
      const found = first.derive(fields);
      return found.ok ? { ok: true, text: padPunctuation(found.text) } : found;
    },
  };
}

/** T5's MultiRC rule: `<br>` becomes a space; `<b>` and `</b>` are removed. */
export function withoutTags(path: string): Derivation {
  return textDerivation(
    { step: 'withoutTags', version: 1, path },
    `${path} with <br> as a space, without <b>`,
    [path],
    (fields) =>
      textAt(fields, path)
        .replaceAll('<br>', ' ')
        .replace(/<\/?b>/gu, ''),
  );
}

/**
 * T5's ReCoRD rule: a highlight becomes a sentence. No full stop is added after a mark that already ends a sentence.
 */
export function withoutHighlights(path: string): Derivation {
  return textDerivation(
    { step: 'withoutHighlights', version: 1, path },
    `${path} with @highlight lines as sentences`,
    [path],
    (fields) =>
      textAt(fields, path)
        .replace(/([.?!"'])\n@highlight\n/gu, '$1 ')
        .replaceAll('\n@highlight\n', '. '),
  );
}
