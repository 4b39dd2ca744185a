/**
 * The normalised words of a text: Unicode NFKC, lower case, runs of letters, marks and digits. All other characters separate words.
 *
 * Source: GPT-3 (Brown et al. 2020, appendix C): lower case, without punctuation, split at white space. Limit: a script without spaces
 * between words, as Chinese, gives few and long words.
 */
export function textWords(text: string): readonly string[] {
  return (
    text
      .normalize('NFKC')
      .toLowerCase()
      .match(/[\p{L}\p{M}\p{N}]+/gu) ?? []
  );
}
