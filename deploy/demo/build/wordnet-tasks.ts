/**
 * Duty: the six tasks made from WordNet. Inputs and targets are short: a definition has at most 24 words. Rows of evaluation sets have a list
 * `accepted` where several answers are right; the first is the target.
 */

import type { Row } from './file-writers.ts';
import { EVALUATION_ROWS, purposeOf, type Split, type WordNetSplit } from './held-out.ts';
import { countWords } from './plain-text.ts';
import { createStream, distinctBy, groupInOrder, sampleEachGroup, sampleInOrder, shuffled } from './seeded-sampling.ts';
import { listAncestors, type Sense, type Synset } from './wordnet.ts';

const MAX_DEFINITION_WORDS = 24;

function isShort(sense: Sense): boolean {
  const words = countWords(sense.synset.definition);
  return words >= 3 && words <= MAX_DEFINITION_WORDS;
}

function countOf(split: Split, ofTrain: number): number {
  return split === 'train' ? ofTrain : EVALUATION_ROWS;
}

/** The right answers of a row of an evaluation set, each once. */
function accepted(split: Split, answers: readonly string[]): { accepted?: readonly string[] } {
  return split === 'train' ? {} : { accepted: [...new Set(answers)] };
}

/** First or second sense of a word → its definition. An evaluation set asks once for a word, and accepts the definitions of all its senses. */
export function buildDefine({ senses, split, whole }: WordNetSplit): Row[] {
  const candidates = senses.filter((sense) => isShort(sense) && sense.senseNumber <= 2);
  const questionOf = ({ word, synset }: Sense): string => `${word} ${synset.partOfSpeech}`;
  const allSenses = groupInOrder(whole.senses, questionOf);
  const asked = split === 'train' ? candidates : distinctBy(candidates, questionOf);
  return sampleInOrder(asked, countOf(split, 30_000), purposeOf('wn_define', split)).map((sense) => {
    const { word, synset } = sense;
    const definitions = allSenses.get(questionOf(sense))!.map((other) => other.synset.definition);
    return {
      word,
      pos: synset.partOfSpeech,
      gloss: synset.definition,
      ...accepted(split, [synset.definition, ...definitions]),
    };
  });
}

/**
 * Reverse dictionary: definition → word. Each definition has one word and does not mention it. An evaluation set accepts all words of the
 * definition.
 */
export function buildReverse({ senses, split, whole }: WordNetSplit): Row[] {
  const byDefinition = new Map<string, Sense>();
  for (const sense of senses.filter(isShort)) {
    const { definition } = sense.synset;
    if (mentions(definition, sense.word)) continue;
    const best = byDefinition.get(definition);
    if (best === undefined || sense.senseNumber < best.senseNumber) byDefinition.set(definition, sense);
  }
  const chosen = sampleInOrder([...byDefinition.values()], countOf(split, 20_000), purposeOf('wn_reverse', split));
  const allSenses = groupInOrder(whole.senses, ({ synset }) => synset.definition);
  return chosen.map(({ word, synset }) => ({
    gloss: synset.definition,
    pos: synset.partOfSpeech,
    word,
    ...accepted(split, [word, ...allSenses.get(synset.definition)!.flatMap((other) => other.synset.lemmas)]),
  }));
}

/** An example sentence with a blank for its word, and the definition as a hint. */
export function buildCloze({ senses, split }: WordNetSplit): Row[] {
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
  return sampleInOrder(rows, countOf(split, 12_000), purposeOf('wn_cloze', split));
}

/**
 * Is a word a kind of another? Half of the rows are true. False hypernyms are the true hypernyms of other words, so the
 * hypernym alone does not reveal the label. Half of the false ones have the same coarse class, so the class alone does
 * not reveal it either. Labels: 0 not_entailment, 1 entailment.
 */
export function buildEntails({ nouns, senses, split }: WordNetSplit): Row[] {
  const stream = createStream(purposeOf('wn_entails ancestors', split));
  const pairs: { sense: Sense; hypernym: Synset; ancestors: ReadonlySet<string> }[] = [];
  for (const sense of shuffled(senses.filter(isShort), purposeOf('wn_entails', split))) {
    const { synset } = sense;
    if (synset.partOfSpeech !== 'noun' || sense.senseNumber > 3) continue;
    const ancestors = listAncestors(synset, nouns);
    const near = ancestors.filter((ancestor) => ancestor.lexicographerFile === synset.lexicographerFile).slice(0, 3);
    if (near.length === 0) continue;
    const hypernym = near[stream.nextBelow(near.length)]!;
    if (hypernym.lemmas[0] === sense.word) continue;
    pairs.push({ sense, hypernym, ancestors: new Set([synset, ...ancestors].flatMap(({ lemmas }) => lemmas)) });
    if (pairs.length === countOf(split, 12_000)) break;
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

/** A word in one of its senses → up to three synonyms. An evaluation set accepts this list and each synonym alone. */
export function buildSynonym({ senses, split }: WordNetSplit): Row[] {
  const rows: Row[] = [];
  for (const sense of senses.filter(isShort)) {
    const { word, synset } = sense;
    const others = synset.lemmas.filter((lemma) => lemma !== word && /^[a-z][a-z -]*$/.test(lemma));
    if (others.length === 0) continue;
    const synonyms = others.slice(0, 3).join(', ');
    rows.push({ word, definition: synset.definition, synonyms, ...accepted(split, [synonyms, ...others]) });
  }
  return sampleInOrder(rows, countOf(split, 12_000), purposeOf('wn_synonym', split));
}

/** A word and its definition → its coarse class in WordNet ("supersense", the lexicographer file). */
export function buildSupersense({ senses, split }: WordNetSplit): Row[] {
  const candidates = senses.filter(
    (sense) => isShort(sense) && /^(noun|verb) (?!tops)/.test(sense.synset.lexicographerFile),
  );
  const ofClass = split === 'train' ? 300 : 8;
  const balanced = sampleEachGroup(
    candidates,
    ofClass,
    ({ synset }) => synset.lexicographerFile,
    purposeOf('wn_supersense', split),
  );
  return balanced.map(({ word, synset }) => ({
    word,
    definition: synset.definition,
    supersense: synset.lexicographerFile,
  }));
}

function mentions(text: string, word: string): boolean {
  return new RegExp(`\\b${word.slice(0, Math.max(4, word.length - 2))}`, 'i').test(text);
}
