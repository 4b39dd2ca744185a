/**
 * Duty: which split a thing is in that rows are about: a word, a chapter of the Bible, an address, a country, an emoji. A thing is in one split,
 * for all tasks, so an example of an evaluation set has no twin in train. README.md states the rule, and demo.test.ts holds it.
 * Assumption: the split of a thing depends on its name only, so a new row changes no other row's split.
 */

import { GramIndex, GRAM_WORDS } from '../../../mixture/overlap/gram-index.ts';
import { textWords } from '../../../mixture/overlap/text-words.ts';
import { stem } from '../../../evaluation/metrics/porter-stemmer.ts';
import { createStream } from './seeded-sampling.ts';
import type { Sense, WordNet } from './wordnet.ts';

export type Split = 'train' | 'validation' | 'test';

/** Split → its folder in deploy/demo. */
export const SPLIT_FOLDERS: Readonly<Record<Split, string>> = { train: 'data', validation: 'validation', test: 'test' };
export const SPLITS: readonly Split[] = ['train', 'validation', 'test'];

/** Percent of the things of a kind that are in each of validation and test. */
const PERCENT = { word: 5, chapter: 3, address: 5, country: 5, emoji: 5 } as const;

/** Rows of an evaluation set where there are more. */
export const EVALUATION_ROWS = 300;

/** Things that change in different commits must not be dealt anew: only kind and name decide. */
function splitOf(kind: keyof typeof PERCENT, name: string): Split {
  const drawn = createStream(`split ${kind} ${name}`).nextBelow(100);
  if (drawn < PERCENT[kind]) return 'test';
  return drawn < 2 * PERCENT[kind] ? 'validation' : 'train';
}

/** The purpose of a random stream: train keeps the name that it had before there were splits. */
export function purposeOf(name: string, split: Split): string {
  return split === 'train' ? name : `${name} ${split}`;
}

/** Splits of words: `colours` and `coloring` are one word, by American spelling and Porter's stem. */
export function createWordSplit(americanSpellings: ReadonlyMap<string, string>): (word: string) => Split {
  const splits = new Map<string, Split>();
  return (word) => {
    const lower = word.toLowerCase();
    const root = stem(americanSpellings.get(lower) ?? lower);
    const known = splits.get(root) ?? splitOf('word', root);
    splits.set(root, known);
    return known;
  };
}

/** The senses that tasks of one split are about. */
export interface WordNetSplit extends WordNet {
  readonly split: Split;
  /** With the senses of all splits: where the right answers are looked up. */
  readonly whole: WordNet;
}

/**
 * Cuts WordNet. A definition is in the split of the first lemma of the first synset that has it. A sense is used only if its word and its
 * definition are in the same split. A sense of an evaluation set is left out if its definition or an example has 13 words in common with train.
 */
export function splitWordNet(wordnet: WordNet, splitOfWord: (word: string) => Split): WordNetSplit[] {
  // Some definitions differ in a comma only.
  const plainDefinition = ({ synset }: Sense): string => textWords(synset.definition).join(' ');
  const ofDefinition = new Map<string, Split>();
  for (const sense of wordnet.senses) {
    const definition = plainDefinition(sense);
    if (!ofDefinition.has(definition)) ofDefinition.set(definition, splitOfWord(sense.synset.lemmas[0]!));
  }
  const sensesOf = (split: Split): Sense[] =>
    wordnet.senses.filter(
      (sense) => splitOfWord(sense.word) === split && ofDefinition.get(plainDefinition(sense)) === split,
    );
  const textsOf = ({ synset }: Sense): string[] => [synset.definition, ...synset.examples];
  const train = sensesOf('train');
  const evaluated = (split: Split): Sense[] =>
    dropTwins(sensesOf(split), textsOf, { in: train.flatMap(textsOf), shortest: GRAM_WORDS });
  return SPLITS.map((split) => ({
    ...wordnet,
    senses: split === 'train' ? train : evaluated(split),
    split,
    whole: wordnet,
  }));
}

/** `Genesis 1:1` → the split of Genesis 1. Passages lie within a chapter. */
export function splitOfVerse(reference: string): Split {
  return splitOf('chapter', reference.slice(0, reference.lastIndexOf(':')));
}

/** The first address of a president is in train, so that each name is known. */
export function splitOfAddress(file: string, isFirstOfPresident: boolean): Split {
  return isFirstOfPresident ? 'train' : splitOf('address', file);
}

export function splitOfCountry(name: string): Split {
  return splitOf('country', name);
}

/** Zero-width joiner, gender signs, and the persons that other signs make a runner, a judge or a family. */
const NEUTRAL = new Set('200D 2640 2642 1F466 1F467 1F468 1F469 1F9D1'.split(' '));

/** Emoji that differ in the gender of a person are in the same split. */
export function splitOfEmoji(codePoints: string): Split {
  const signs = codePoints.split(' ').filter((hex) => !NEUTRAL.has(hex));
  return splitOf('emoji', signs.join(' '));
}

/**
 * Drops items of an evaluation set that have a text in common with train: 13 words in a row, or all words of a shorter text.
 * @param textsOf the texts of an item @param train.shortest words of the shortest text that is compared
 */
export function dropTwins<Item>(
  items: readonly Item[],
  textsOf: (item: Item) => readonly string[],
  train: { readonly in: Iterable<string>; readonly shortest: number },
): Item[] {
  const index = new GramIndex({ longest: GRAM_WORDS, shortest: train.shortest });
  for (const [i, item] of items.entries()) for (const text of textsOf(item)) index.add(i, textWords(text));
  const twins = new Set<number>();
  for (const text of train.in) index.search(textWords(text), (i) => twins.add(i));
  return items.filter((_, i) => !twins.has(i));
}
