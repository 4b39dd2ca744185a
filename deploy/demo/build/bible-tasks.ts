/**
 * Duty: translation, style transfer, paraphrase identification and denoising text, made from three public-domain
 * Bibles.
 */

import { GRAM_WORDS } from '../../../mixture/overlap/gram-index.ts';
import { type AlignedVerse, type Verses } from './bible.ts';
import type { Row } from './file-writers.ts';
import { dropTwins, purposeOf, splitOfVerse, SPLITS, type Split } from './held-out.ts';
import { countWords, packPassages } from './plain-text.ts';
import { createStream, distinctBy, groupInOrder, sampleInOrder, shuffled } from './seeded-sampling.ts';

/** A Spanish verse of 20 words nearly always has fewer than 48 pieces of a small vocabulary. */
const MAX_VERSE_WORDS = 20;
const MAX_PASSAGE_WORDS = 80;

const NUM_TRANSLATIONS: Readonly<Record<Split, number>> = { train: 12_000, validation: 300, test: 300 };
const NUM_ENGLISH_PAIRS = {
  train: { style: 9_000, match: 5_000 },
  validation: { style: 250, match: 150 },
  test: { style: 250, match: 150 },
} as const;
const NUM_PASSAGES = {
  train: { web: 4_500, kjv: 1_500 },
  validation: { web: 150, kjv: 50 },
  test: { web: 150, kjv: 50 },
} as const;

/** What the builders read of a split. */
export interface BibleSplit {
  readonly split: Split;
  readonly aligned: readonly AlignedVerse[];
  readonly webPassages: readonly string[];
  readonly kjvPassages: readonly string[];
}

/**
 * Cuts the Bible by chapter. A verse or passage of an evaluation set is left out if train has its words elsewhere, as in a parallel verse of
 * another book: 13 words in a row, or a whole verse of at least four words.
 */
export function splitBible(
  aligned: readonly AlignedVerse[],
  translations: { readonly web: Verses; readonly kjv: Verses; readonly es: Verses },
): BibleSplit[] {
  const trainTexts = Object.values(translations).flatMap((verses) =>
    chaptersOf(versesOf(verses, 'train')).map((chapter) => chapter.join(' ')),
  );
  return SPLITS.map((split) => {
    const verses = aligned.filter(({ reference }) => splitOfVerse(reference) === split);
    const passages = (of: Verses): string[] => passagesOf(versesOf(of, split));
    const { web, kjv } = translations;
    if (split === 'train') return { split, aligned: verses, webPassages: passages(web), kjvPassages: passages(kjv) };
    const withoutTwins = (of: Verses): string[] =>
      dropTwins(passages(of), (passage) => [passage], { in: trainTexts, shortest: GRAM_WORDS });
    return {
      split,
      aligned: dropTwins(verses, (verse) => [verse.kjv, verse.web, verse.es], { in: trainTexts, shortest: 4 }),
      webPassages: withoutTwins(web),
      kjvPassages: withoutTwins(kjv),
    };
  });
}

function versesOf(verses: Verses, split: Split): Verses {
  return new Map([...verses].filter(([reference]) => splitOfVerse(reference) === split));
}

/** The verses of each chapter. */
function chaptersOf(verses: Verses): string[][] {
  const chapters = groupInOrder(verses, ([reference]) => reference.slice(0, reference.lastIndexOf(':')));
  return Array.from(chapters.values(), (chapter) => chapter.map(([, text]) => text));
}

/** World English Bible ↔ Reina-Valera 1909. Both directions use the same file. */
export function buildTranslation({ aligned: verses, split }: BibleSplit): Row[] {
  const short = verses.filter(({ web, es }) => countWords(web) <= MAX_VERSE_WORDS && countWords(es) <= MAX_VERSE_WORDS);
  return sampleInOrder(short, NUM_TRANSLATIONS[split], purposeOf('bible_en_es', split)).map(
    ({ reference, web, es }) => ({
      verse: reference,
      en: web,
      es,
    }),
  );
}

/**
 * King James (1769) → World English Bible (2020), and pairs of the two that match or do not match. The two tasks share
 * no verse.
 */
export function buildEnglishPairs({ aligned: verses, split }: BibleSplit): { style: Row[]; match: Row[] } {
  const short = verses.filter(
    ({ kjv, web }) => countWords(kjv) <= 30 && countWords(web) <= MAX_VERSE_WORDS + 6 && kjv !== web,
  );
  // The Bible contains some verses twice, word for word.
  const once = distinctBy(
    distinctBy(short, ({ kjv }) => kjv),
    ({ web }) => web,
  );
  const order = shuffled(once, purposeOf('kjv_to_web', split));
  const { style: numStyle, match: numMatch } = NUM_ENGLISH_PAIRS[split];
  const style = order.slice(0, numStyle).map(({ reference, kjv, web }) => ({ verse: reference, kjv, web }));
  return { style, match: buildMatch(order.slice(numStyle, numStyle + numMatch), split) };
}

/**
 * Labels: 0 different, 1 same. For a different pair we draw 200 verses and use the one that shares the most words with
 * the first verse. So a single common word does not reveal the label.
 */
function buildMatch(verses: readonly AlignedVerse[], split: Split): Row[] {
  const stream = createStream(purposeOf('kjv_web_match', split));
  const wordsOfWeb = verses.map(({ web }) => wordsOf(web));
  return verses.map(({ reference, kjv, web }, i) => {
    if (i % 2 === 0) return { kjv_verse: reference, kjv, web_verse: reference, web, label: 1 };
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
    const other = verses[closest]!;
    return { kjv_verse: reference, kjv, web_verse: other.reference, web: other.web, label: 0 };
  });
}

function wordsOf(text: string): ReadonlySet<string> {
  return new Set(text.toLowerCase().match(/\p{L}{3,}/gu));
}

/** Consecutive verses of one chapter, joined into passages of at most 80 words. */
export function buildBiblePassages({ webPassages, kjvPassages, split }: BibleSplit): string[] {
  const numPassages = NUM_PASSAGES[split];
  return [
    ...sampleInOrder(webPassages, numPassages.web, purposeOf('denoising web', split)),
    ...sampleInOrder(kjvPassages, numPassages.kjv, purposeOf('denoising kjv', split)),
  ];
}

function passagesOf(verses: Verses): string[] {
  const passages = chaptersOf(verses).flatMap((chapter) => packPassages(chapter, MAX_PASSAGE_WORDS));
  return distinctBy(passages, (passage) => passage).filter((passage) => countWords(passage) >= 20);
}
