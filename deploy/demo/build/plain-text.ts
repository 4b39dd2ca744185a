/** Duty: the few text measures and cuts that all tasks of the demo share. A word is a run of characters between white space. */

/** @returns the number of words, 0 for blank text */
export function countWords(text: string): number {
  const trimmed = text.trim();
  return trimmed === '' ? 0 : trimmed.split(/\s+/).length;
}

export function collapseSpaces(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/** Splits at `.`, `!` or `?` (and a closing quote) before a capital, a digit or an opening quote. Abbreviations split too: callers join again. */
export function splitSentences(text: string): string[] {
  return collapseSpaces(text)
    .split(/(?<=[.!?][”"’)]?) (?=[“"‘(]?[A-Z0-9])/)
    .filter((sentence) => sentence !== '');
}

/** Joins neighbours into passages of at most `maxWords` words; a piece that is longer alone is left out, and ends its passage. */
export function packPassages(pieces: readonly string[], maxWords: number): string[] {
  const passages: string[] = [];
  let open: string[] = [];
  let numWords = 0;
  const close = (): void => {
    if (open.length > 0) passages.push(open.join(' '));
    open = [];
    numWords = 0;
  };
  for (const piece of pieces) {
    const words = countWords(piece);
    if (numWords + words > maxWords) close();
    if (words > maxWords) continue;
    open.push(piece);
    numWords += words;
  }
  close();
  return passages;
}
