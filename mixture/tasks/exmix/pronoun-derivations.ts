/**
 * T5's pronoun rules: asterisks mark the pronoun, and the target is the noun that it refers to.
 *
 * WSC (SuperGLUE `wsc.fixed`): words are the parts between single spaces, and `span2_index` counts them. In two rows
 * the index is wrong: the word there carries punctuation ("him,\""), or the pronoun is the next word. T5 lists both
 * texts by hand. Here one rule covers them: we mark the first word that is the pronoun, or begins with it, among the
 * word at the index and its two neighbours. DPR: we mark the first pronoun that stands between a space and a space,
 * comma or full stop. If there is none, the text stays as it is.
 */
import { integerAt, textAt, textDerivation, type Derivation } from './derivation.ts';

/** Marks the word at `index` or beside it. Undefined if the pronoun is not there. */
export function markPronoun(text: string, pronoun: string, index: number): string | undefined {
  const words = text.split(' ');
  const isPronoun = (at: number) => words[at] === pronoun;
  const beginsWithIt = (at: number) => {
    const word = words[at] ?? '';
    return word.startsWith(pronoun) && !/^[\p{L}\p{N}]/u.test(word.slice(pronoun.length));
  };
  const near = [index, index + 1, index - 1];
  const at = near.find(isPronoun) ?? near.find(beginsWithIt);
  if (at === undefined) return undefined;
  const rest = words[at]!.slice(pronoun.length);
  words[at] = rest === '' ? `*${pronoun}*` : `*${pronoun}* ${rest}`;
  return words.join(' ');
}

export function markedByIndex(textPath: string, pronounPath: string, indexPath: string): Derivation {
  return {
    identity: { step: 'markedByIndex', version: 1, textPath, pronounPath, indexPath },
    words: `${textPath} with ${pronounPath}, at word ${indexPath}, between asterisks`,
    columns: [textPath, pronounPath, indexPath],
    derive(fields) {
      const pronoun = textAt(fields, pronounPath);
      const index = integerAt(fields, indexPath);
      const text = markPronoun(textAt(fields, textPath), pronoun, index);
      return text === undefined
        ? {
            ok: false,
            reason: `column "${indexPath}": expected "${pronoun}" at word ${index} of ${textPath}, found another word`,
          }
        : { ok: true, text };
    },
  };
}

export function markedFirst(textPath: string, pronounPath: string): Derivation {
  return textDerivation(
    { step: 'markedFirst', version: 1, textPath, pronounPath },
    `${textPath} with the first ${pronounPath} between asterisks`,
    [textPath, pronounPath],
    (fields) => markFirst(textAt(fields, textPath), textAt(fields, pronounPath)),
  );
}

function markFirst(text: string, pronoun: string): string {
  const places = [' ', '.', ','].map((end) => text.indexOf(` ${pronoun}${end}`)).filter((at) => at >= 0);
  if (pronoun === '' || places.length === 0) return text;
  const at = Math.min(...places) + 1;
  return `${text.slice(0, at)}*${pronoun}*${text.slice(at + pronoun.length)}`;
}
