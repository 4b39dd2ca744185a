/**
 * Duty: translation, style transfer, paraphrase identification and denoising text, made from three public-domain
 * Bibles.
 */

import { type AlignedVerse, type Verses } from './bible.ts';
import type { Row } from './file-writers.ts';
import { countWords, packPassages } from './plain-text.ts';
import { createStream, distinctBy, groupInOrder, sampleInOrder, shuffled } from './seeded-sampling.ts';

/** A Spanish verse of 20 words nearly always has fewer than 48 pieces of a small vocabulary. */
const MAX_VERSE_WORDS = 20;
const MAX_PASSAGE_WORDS = 80;

/** World English Bible ↔ Reina-Valera 1909. Both directions use the same file. */
export function buildTranslation(verses: readonly AlignedVerse[]): Row[] {
  const short = verses.filter(({ web, es }) => countWords(web) <= MAX_VERSE_WORDS && countWords(es) <= MAX_VERSE_WORDS);
  return sampleInOrder(short, 12_000, 'bible_en_es').map(({ web, es }) => ({ en: web, es }));
}

/**
 * King James (1769) → World English Bible (2020), and pairs of the two that match or do not match. The two tasks share
 * no verse.
 */
export function buildEnglishPairs(verses: readonly AlignedVerse[]): { style: Row[]; match: Row[] } {
  const short = verses.filter(
    ({ kjv, web }) => countWords(kjv) <= 30 && countWords(web) <= MAX_VERSE_WORDS + 6 && kjv !== web,
  );
  // The Bible contains some verses twice, word for word.
  const once = distinctBy(
    distinctBy(short, ({ kjv }) => kjv),
    ({ web }) => web,
  );
  const order = shuffled(once, 'kjv_to_web');
  const style = order.slice(0, 9_000).map(({ kjv, web }) => ({ kjv, web }));
  return { style, match: buildMatch(order.slice(9_000, 14_000)) };
}

/**
 * Labels: 0 different, 1 same. For a different pair we draw 200 verses and use the one that shares the most words with
 * the first verse. So a single common word does not reveal the label.
 */
function buildMatch(verses: readonly AlignedVerse[]): Row[] {
  const stream = createStream('kjv_web_match');
  const wordsOfWeb = verses.map(({ web }) => wordsOf(web));
  return verses.map(({ kjv, web }, i) => {
    if (i % 2 === 0) return { kjv, web, label: 1 };
    const words = wordsOf(kjv);
    let closest = i;
    let most = -1;
    for (let draw = 0; draw < 200; draw++) {
      const j = stream.nextBelow(verses.length);
      const others = wordsOfWeb[j]!;
      const numShared = [...words].filter((word) => others.has(word)).length;
      const likeness = numShared / Math.sqrt(others.size + 1);
      if (j === i || likeness <= most) continue;
      most = likeness;
      closest = j;
    }
    return { kjv, web: verses[closest]!.web, label: 0 };
  });
}

function wordsOf(text: string): ReadonlySet<string> {
  return new Set(text.toLowerCase().match(/\p{L}{3,}/gu));
}

/** Consecutive verses of one chapter, joined into passages of at most 80 words. */
export function buildBiblePassages(web: Verses, kjv: Verses): string[] {
  return [
    ...sampleInOrder(passagesOf(web), 4_500, 'denoising web'),
    ...sampleInOrder(passagesOf(kjv), 1_500, 'denoising kjv'),
  ];
}

function passagesOf(verses: Verses): string[] {
  const chapters = groupInOrder(verses, ([reference]) => reference.slice(0, reference.lastIndexOf(':')));
  const passages = Array.from(chapters.values()).flatMap((chapter) =>
    packPassages(
      chapter.map(([, text]) => text),
      MAX_PASSAGE_WORDS,
    ),
  );
  return distinctBy(passages, (passage) => passage).filter((passage) => countWords(passage) >= 20);
}
