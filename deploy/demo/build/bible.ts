/**
 * Duty: SWORD modules (OSIS markup in the export of mod2imp) → plain verses, and the verses that three translations
 * share. We drop footnotes, cross references, headings and psalm titles. We do not change the words of the text.
 */

import { countWords, collapseSpaces } from './plain-text.ts';

/** `Genesis 1:1` → text, in the order of the module. */
export type Verses = ReadonlyMap<string, string>;

export interface AlignedVerse {
  readonly reference: string;
  readonly kjv: string;
  readonly web: string;
  readonly es: string;
}

/** @param exported lines `$$$Book chapter:verse`, each followed by the lines of its entry */
export function readVerses(exported: string): Verses {
  const verses = new Map<string, string>();
  for (const entry of exported.split(/^\$\$\$/m)) {
    const lineEnd = entry.indexOf('\n');
    const reference = entry.slice(0, lineEnd);
    if (!/ [1-9]\d*:[1-9]\d*$/.test(reference)) continue; // book and chapter headings
    const text = stripOsis(entry.slice(lineEnd + 1));
    if (text !== '') verses.set(reference, text);
  }
  return verses;
}

/** OSIS → plain text. Notes and line ends become a space, so that two words do not join into one. */
export function stripOsis(osis: string): string {
  const text = osis
    .replace(/<note\b[^>]*>.*?<\/note>/gs, ' ')
    .replace(/<title\b[^>]*>.*?<\/title>/gs, ' ')
    .replace(/<\/?(?:w|q|seg|hi|transChange|divineName|foreign)\b[^>]*>/g, '')
    .replace(/<[^>]*>/g, ' ')
    .replaceAll('¶', ' ');
  return collapseSpaces(text)
    .replace(/ +([,.;:!?”)])/g, '$1')
    .replace(/([“‘(¡¿]) +/g, '$1');
}

/** Chapters that the three texts number differently. */
const RENUMBERED = /^(II Corinthians 13|III John 1|Revelation of John 12|Romans (14|16)|Acts 19):/;

/**
 * The verses that all three texts have under the same number, if their lengths agree within a factor of two. We drop
 * the first verses of psalms, because only one translation counts their titles as text. We also drop Spanish verses
 * that begin a chapter in capitals.
 */
export function alignVerses(kjv: Verses, web: Verses, es: Verses): AlignedVerse[] {
  const aligned: AlignedVerse[] = [];
  for (const [reference, kjvText] of kjv) {
    const webText = web.get(reference);
    const esText = es.get(reference);
    if (webText === undefined || esText === undefined) continue;
    if (RENUMBERED.test(reference) || /^Psalms \d+:1$/.test(reference)) continue;
    if (/^.{0,8}\p{Lu}{2}/u.test(esText)) continue;
    const lengths = [kjvText, webText, esText].map(countWords);
    if (Math.max(...lengths) > 2 * Math.min(...lengths) || Math.min(...lengths) < 4) continue;
    aligned.push({ reference, kjv: kjvText, web: webText, es: esText });
  }
  return aligned;
}
