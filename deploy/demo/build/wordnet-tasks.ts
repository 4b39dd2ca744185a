/** Duty: the six tasks made from WordNet. Inputs and targets are short: a definition has at most 24 words. */

import type { Row } from './file-writers.ts';
import { countWords } from './plain-text.ts';
import { createStream, groupInOrder, sampleEachGroup, sampleInOrder, shuffled } from './seeded-sampling.ts';
import { listAncestors, type Sense, type Synset, type WordNet } from './wordnet.ts';

const MAX_DEFINITION_WORDS = 24;

function isShort(sense: Sense): boolean {
  const words = countWords(sense.synset.definition);
  return words >= 3 && words <= MAX_DEFINITION_WORDS;
}

/** First or second sense of a word → its definition. */
export function buildDefine({ senses }: WordNet): Row[] {
  const candidates = senses.filter((sense) => isShort(sense) && sense.senseNumber <= 2);
  return sampleInOrder(candidates, 30_000, 'wn_define').map(({ word, synset }) => ({
    word,
    pos: synset.partOfSpeech,
    gloss: synset.definition,
  }));
}

/** Reverse dictionary: definition → word. Each definition has one word and does not mention it. */
export function buildReverse({ senses }: WordNet): Row[] {
  const byDefinition = new Map<string, Sense>();
  for (const sense of senses.filter(isShort)) {
    const { definition } = sense.synset;
    if (mentions(definition, sense.word)) continue;
    const best = byDefinition.get(definition);
    if (best === undefined || sense.senseNumber < best.senseNumber) byDefinition.set(definition, sense);
  }
  return sampleInOrder([...byDefinition.values()], 20_000, 'wn_reverse').map(({ word, synset }) => ({
    gloss: synset.definition,
    pos: synset.partOfSpeech,
    word,
  }));
}

/** An example sentence with a blank for its word, and the definition as a hint. */
export function buildCloze({ senses }: WordNet): Row[] {
  const rows: Row[] = [];
  for (const { word, synset } of senses) {
    for (const example of synset.examples) {
      const words = countWords(example);
      const parts = example.split(new RegExp(`\\b${word}\\b`));
      if (words < 4 || words > 40 || parts.length !== 2 || countWords(synset.definition) > MAX_DEFINITION_WORDS)
        continue;
      rows.push({ sentence: parts.join('___'), definition: synset.definition, word });
    }
  }
  return sampleInOrder(rows, 12_000, 'wn_cloze');
}

/**
 * Is a word a kind of another? Half of the rows are true. False hypernyms are the true hypernyms of other words, so the
 * hypernym alone does not reveal the label. Half of the false ones have the same coarse class, so the class alone does
 * not reveal it either. Labels: 0 not_entailment, 1 entailment.
 */
export function buildEntails({ nouns, senses }: WordNet): Row[] {
  const stream = createStream('wn_entails ancestors');
  const pairs: { sense: Sense; hypernym: Synset; ancestors: ReadonlySet<string> }[] = [];
  for (const sense of shuffled(senses.filter(isShort), 'wn_entails')) {
    const { synset } = sense;
    if (synset.partOfSpeech !== 'noun' || sense.senseNumber > 3) continue;
    const ancestors = listAncestors(synset, nouns);
    const near = ancestors.filter((ancestor) => ancestor.lexicographerFile === synset.lexicographerFile).slice(0, 3);
    if (near.length === 0) continue;
    const hypernym = near[stream.nextBelow(near.length)]!;
    if (hypernym.lemmas[0] === sense.word) continue;
    pairs.push({ sense, hypernym, ancestors: new Set([synset, ...ancestors].flatMap(({ lemmas }) => lemmas)) });
    if (pairs.length === 12_000) break;
  }
  const byClass = groupInOrder(pairs, ({ hypernym }) => hypernym.lexicographerFile);
  return pairs.map(({ sense, hypernym, ancestors }, i) => {
    const isTrue = i % 2 === 0;
    const pool = i % 4 === 1 ? byClass.get(hypernym.lexicographerFile)! : pairs;
    let claimed = hypernym;
    // A class may contain only true ancestors, so after 50 draws we draw from all pairs.
    for (let draw = 0; !isTrue && ancestors.has(claimed.lemmas[0]!); draw++) {
      const from = draw < 50 ? pool : pairs;
      claimed = from[stream.nextBelow(from.length)]!.hypernym;
    }
    return {
      word: sense.word,
      definition: sense.synset.definition,
      hypernym: claimed.lemmas[0]!,
      label: isTrue ? 1 : 0,
    };
  });
}

/** A word in one of its senses → up to three synonyms. */
export function buildSynonym({ senses }: WordNet): Row[] {
  const rows: Row[] = [];
  for (const sense of senses.filter(isShort)) {
    const { word, synset } = sense;
    const others = synset.lemmas.filter((lemma) => lemma !== word && /^[a-z][a-z -]*$/.test(lemma));
    if (others.length > 0) rows.push({ word, definition: synset.definition, synonyms: others.slice(0, 3).join(', ') });
  }
  return sampleInOrder(rows, 12_000, 'wn_synonym');
}

/** A word and its definition → its coarse class in WordNet ("supersense", the lexicographer file). */
export function buildSupersense({ senses }: WordNet): Row[] {
  const candidates = senses.filter(
    (sense) => isShort(sense) && /^(noun|verb) (?!tops)/.test(sense.synset.lexicographerFile),
  );
  const balanced = sampleEachGroup(candidates, 300, ({ synset }) => synset.lexicographerFile, 'wn_supersense');
  return balanced.map(({ word, synset }) => ({
    word,
    definition: synset.definition,
    supersense: synset.lexicographerFile,
  }));
}

function mentions(text: string, word: string): boolean {
  return new RegExp(`\\b${word.slice(0, Math.max(4, word.length - 2))}`, 'i').test(text);
}
