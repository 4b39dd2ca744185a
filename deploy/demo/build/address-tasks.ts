/**
 * Duty: State of the Union addresses → two data sets: which president said a passage, and denoising text. They share no
 * passage.
 */

import { readFileSync, readdirSync } from 'node:fs';
import { z } from 'zod';
import type { Row } from './file-writers.ts';
import { countWords, packPassages, splitSentences } from './plain-text.ts';
import { distinctBy, sampleEachGroup, sampleInOrder } from './seeded-sampling.ts';

const addressSchema = z.object({ year: z.number().int(), name: z.string().min(1), text: z.string().min(1) });

interface Passage {
  readonly president: string;
  readonly text: string;
}

/** @param folder the data folder of the package, with one JSON file per address */
export function buildAddresses(folder: string): { attribution: Row[]; documents: string[] } {
  const files = readdirSync(folder).filter((file) => /^\d{4}_.*\.json$/.test(file));
  const all = files.sort().flatMap((file) => readPassages(readFileSync(`${folder}/${file}`, 'utf8')));
  // Some sentences are repeated word for word every year. Keep the first one.
  const passages = distinctBy(all, ({ text }) => text);
  const attributed = sampleEachGroup(passages, 160, ({ president }) => president, 'sotu_president');
  const used = new Set(attributed);
  const rest = passages.filter((passage) => !used.has(passage)).map(({ text }) => text);
  return {
    attribution: attributed.map(({ president, text }) => ({ passage: text, president })),
    documents: sampleInOrder(rest, 4_000, 'denoising sotu'),
  };
}

function readPassages(json: string): Passage[] {
  const { name, text } = addressSchema.parse(JSON.parse(json));
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
