/**
 * Duty: State of the Union addresses → two data sets: which president said a passage, and denoising text. They share no
 * passage.
 */

import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { GRAM_WORDS } from '../../../mixture/overlap/gram-index.ts';
import type { Row } from './file-writers.ts';
import { dropTwins, purposeOf, splitOfAddress, SPLITS, type Split } from './held-out.ts';
import { countWords, packPassages, splitSentences } from './plain-text.ts';
import { distinctBy, sampleEachGroup, sampleInOrder } from './seeded-sampling.ts';

const addressSchema = z.object({ year: z.number().int(), name: z.string().min(1), text: z.string().min(1) });

interface Passage {
  readonly split: Split;
  /** File name without `.json`: year and president. */
  readonly address: string;
  readonly president: string;
  readonly text: string;
}

/** Passages of each president, and documents of denoising text. */
const NUM_PASSAGES: Readonly<Record<Split, readonly [ofPresident: number, documents: number]>> = {
  train: [160, 4_000],
  validation: [30, 100],
  test: [30, 100],
};

export interface AddressSplit {
  readonly split: Split;
  readonly attribution: Row[];
  readonly documents: string[];
}

/** @param folder the data folder of the package, with one JSON file per address */
export function buildAddresses(folder: string): AddressSplit[] {
  const files = readdirSync(folder).filter((file) => /^\d{4}_.*\.json$/.test(file));
  const presidents = new Set<string>();
  const all = files.sort().flatMap((file) => {
    const address = addressSchema.parse(JSON.parse(readFileSync(`${folder}/${file}`, 'utf8')));
    const split = splitOfAddress(file, !presidents.has(address.name));
    presidents.add(address.name);
    return readPassages(address).map(({ president, text }) => ({
      split,
      address: path.basename(file, '.json'),
      president,
      text,
    }));
  });
  // Some sentences are repeated word for word every year. Keep the first one.
  const passages = distinctBy(all, ({ text }) => text);
  const trainTexts = passages.filter(({ split }) => split === 'train').map(({ text }) => text);
  return SPLITS.map((split) => {
    const ofSplit = passages.filter((passage) => passage.split === split);
    return buildSplit(
      split,
      split === 'train' ? ofSplit : dropTwins(ofSplit, ({ text }) => [text], { in: trainTexts, shortest: GRAM_WORDS }),
    );
  });
}

function buildSplit(split: Split, passages: readonly Passage[]): AddressSplit {
  const [numOfPresident, numDocuments] = NUM_PASSAGES[split];
  const attributed = sampleEachGroup(
    passages,
    numOfPresident,
    ({ president }) => president,
    purposeOf('sotu_president', split),
  );
  const used = new Set(attributed);
  const rest = passages.filter((passage) => !used.has(passage)).map(({ text }) => text);
  return {
    split,
    attribution: attributed.map(({ address, president, text }) => ({ address, passage: text, president })),
    documents: sampleInOrder(rest, numDocuments, purposeOf('denoising sotu', split)),
  };
}

function readPassages({ name, text }: z.infer<typeof addressSchema>): Pick<Passage, 'president' | 'text'>[] {
  const president = name.replace(/\b([A-Z])(?= )/g, '$1.').replace('Mc Kinley', 'McKinley');
  const plain = text
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&mdash;', ' - ')
    .replace(/[([](applause|laughter)[^)\]]*[)\]]/gi, ' ')
    .replace(/ ?-- ?/g, ' - ');
  // 68 words are about 105 pieces of a small vocabulary.
  return packPassages(splitSentences(plain), 68)
    .filter((passage) => countWords(passage) >= 25)
    .map((passage) => ({ president, text: passage }));
}
