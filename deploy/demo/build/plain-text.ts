/** Duty: counts and splits text for all tasks of the demo. A word is a run of characters between white space. */

/** @returns 0 for blank text */
export function countWords(text: string): number {
  const trimmed = text.trim();
  return trimmed === '' ? 0 : trimmed.split(/\s+/).length;
}

export function collapseSpaces(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/**
 * Splits after `.`, `!` or `?` (and a closing quote) if a capital, a digit or an opening quote follows. It also splits
 * after abbreviations; callers join the parts again.
 */
export function splitSentences(text: string): string[] {
  return collapseSpaces(text)
    .split(/(?<=[.!?][”"’)]?) (?=[“"‘(]?[A-Z0-9])/)
    .filter((sentence) => sentence !== '');
}

/**
 * Joins consecutive pieces into passages of at most `maxWords` words. A piece that alone is longer is dropped and ends
 * the passage before it.
 */
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
