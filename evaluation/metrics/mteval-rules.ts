/** Rules of mteval-v13a.pl, which the tokenizers of BLEU and TER share. */

/** A pattern and what stands in its place. */
export type TextRule = readonly [pattern: RegExp, replacement: string];

/** Punctuation apart. */
export const PUNCTUATION_RULE: TextRule = [/([{-~[-` -&(-+:-@/])/g, ' $1 '];

/** Periods and commas apart unless between digits; a dash apart after a digit. */
export const NUMBER_RULES: readonly TextRule[] = [
  [/([^0-9])([.,])/g, '$1 $2 '],
  [/([.,])([^0-9])/g, ' $1 $2'],
  [/([0-9])(-)/g, '$1 $2 '],
];

/** Without the flag u, which is slower: half of a surrogate pair is as good a non-digit as the whole. */
export const MTEVAL_RULES: readonly TextRule[] = [PUNCTUATION_RULE, ...NUMBER_RULES];

export function applyRules(text: string, rules: readonly TextRule[]): string {
  return rules.reduce((line, [pattern, replacement]) => line.replace(pattern, replacement), text);
}

/** The four entities of XML that mteval knows. */
export function unescapeEntities(text: string): string {
  if (!text.includes('&')) return text;
  return text.replaceAll('&quot;', '"').replaceAll('&amp;', '&').replaceAll('&lt;', '<').replaceAll('&gt;', '>');
}
