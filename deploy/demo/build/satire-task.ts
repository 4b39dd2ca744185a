/**
 * Duty: is a definition serious or satirical? Ambrose Bierce's Devil's Dictionary (1911) and WordNet, equally many of
 * each. All definitions have the same form (one sentence, a capital, a full stop), so only their words show the label.
 */

import type { Row } from './file-writers.ts';
import { collapseSpaces, countWords, splitSentences } from './plain-text.ts';
import { purposeOf, type Split, type WordNetSplit } from './held-out.ts';
import { shuffled } from './seeded-sampling.ts';
import type { PartOfSpeech } from './wordnet.ts';

const PARTS_OF_SPEECH: Readonly<Record<string, PartOfSpeech>> = {
  n: 'noun',
  adj: 'adjective',
  v: 'verb',
  adv: 'adverb',
};

/** Excludes entries with ethnic slurs of their time. */
const EXCLUDED = /\b(negro|nigger|jew|jews|hebrew|chinaman|squaw|savage|savages)\b/i;

/**
 * @param devilText the text of Debian's dict-devil @returns rows with the labels `satirical` and `serious`
 * in turn
 */
export function buildSatire(
  devilText: string,
  { senses, split }: WordNetSplit,
  splitOfWord: (word: string) => Split,
): Row[] {
  const satirical: Row[] = [];
  for (const paragraph of devilText.split(/\n\s*\n/)) {
    const entry = /^([A-Z]{3,}), (n|adj|v|adv)\.\S* +(.+)$/s.exec(paragraph.trim());
    if (entry === null || splitOfWord(entry[1]!) !== split) continue;
    const definition = splitSentences(entry[3]!.replaceAll('_', ''))[0] ?? '';
    const words = countWords(definition);
    if (words < 4 || words > 40 || EXCLUDED.test(definition) || !/^[“"A-Z].*[.!?]$/.test(definition)) continue;
    satirical.push({ word: entry[1]!.toLowerCase(), pos: PARTS_OF_SPEECH[entry[2]!]!, definition, label: 'satirical' });
  }
  const serious = shuffled(
    senses.filter(({ synset }) => countWords(synset.definition) >= 6 && !/[();]/.test(synset.definition)),
    purposeOf('satire', split),
  ).map(({ word, synset }) => ({
    word,
    pos: synset.partOfSpeech,
    definition: collapseSpaces(`${synset.definition.charAt(0).toUpperCase()}${synset.definition.slice(1)}.`),
    label: 'serious',
  }));
  return satirical.flatMap((row, i) => [row, serious[i]!]);
}
