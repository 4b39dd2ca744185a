/**
 * A stream of texts → windows: runs of texts whose batches are planned together. Bounds follow from the texts alone, so the batches are the same
 * whoever computes them, and in a second run.
 */

/** Texts of a window. */
const MAX_TEXTS = 1_024;
/** A window ends behind the text that reaches it, B of UTF-8. */
const MAX_BYTES = 4 * 1024 * 1024;

export interface InputWindow {
  /** Number of its first text in the input. */
  readonly first: number;
  readonly texts: readonly string[];
  readonly bytes: number;
}

export async function* windowsOf(
  texts: AsyncIterable<string>,
  { maxTexts = MAX_TEXTS, maxBytes = MAX_BYTES } = {},
): AsyncGenerator<InputWindow> {
  let first = 0;
  let window: string[] = [];
  let bytes = 0;
  for await (const text of texts) {
    window.push(text);
    bytes += Buffer.byteLength(text);
    if (window.length < maxTexts && bytes < maxBytes) continue;
    yield { first, texts: window, bytes };
    first += window.length;
    window = [];
    bytes = 0;
  }
  if (window.length > 0) yield { first, texts: window, bytes };
}
