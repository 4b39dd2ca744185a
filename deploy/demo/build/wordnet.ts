/**
 * Duty: WordNet's database files → senses of plain words. A plain word is in lower case, without spaces, and in
 * CMUdict; this excludes Latin binomials and names. We drop senses that WordNet marks as slurs or obscene.
 * Source: wndb(5WN): `offset lex_filenum ss_type w_cnt(hex) {word lex_id} p_cnt {symbol offset pos source/target} … |
 * gloss`.
 */

import { readFileSync } from 'node:fs';
import { collapseSpaces } from './plain-text.ts';

export type PartOfSpeech = 'noun' | 'verb' | 'adjective' | 'adverb';

const FILES: Readonly<Record<PartOfSpeech, string>> = { noun: 'noun', verb: 'verb', adjective: 'adj', adverb: 'adv' };

/** Lexicographer files 00 … 44 of lexnames(5WN): WordNet's coarse classes. */
const LEXICOGRAPHER_FILES = [
  'adjective all,adjective pertainym,adverb all,noun tops,noun act,noun animal,noun artifact,noun attribute,noun body',
  'noun cognition,noun communication,noun event,noun feeling,noun food,noun group,noun location,noun motive,noun object',
  'noun person,noun phenomenon,noun plant,noun possession,noun process,noun quantity,noun relation,noun shape,noun state',
  'noun substance,noun time,verb body,verb change,verb cognition,verb communication,verb competition,verb consumption',
  'verb contact,verb creation,verb emotion,verb motion,verb perception,verb possession,verb social,verb stative,verb weather',
  'adjective participial',
].flatMap((line) => line.split(','));

const MARKED_AS_OFFENSIVE =
  /\b(slurs?|offensive|disparag\w*|derogat\w*|obscene|vulgar|insulting|contempt\w*|sexual\w*|taboo)\b/i;

export interface Synset {
  /** Byte offset in the data file: the key within one part of speech. */
  readonly offset: string;
  readonly partOfSpeech: PartOfSpeech;
  readonly lexicographerFile: string;
  /** All lemmas, with spaces instead of underscores. */
  readonly lemmas: readonly string[];
  readonly definition: string;
  readonly examples: readonly string[];
  /** Offsets of the direct hypernyms, without instance hypernyms. */
  readonly hypernyms: readonly string[];
}

export interface Sense {
  readonly word: string;
  readonly synset: Synset;
  /** 1 is the most frequent sense of the word in its part of speech. */
  readonly senseNumber: number;
}

export interface WordNet {
  readonly nouns: ReadonlyMap<string, Synset>;
  /** In the order of WordNet's index files: part of speech, then word, then sense number. */
  readonly senses: readonly Sense[];
}

/** @param dictFolder contains data.* and index.* @param isKnownWord whether tasks may use a word */
export function readWordNet(dictFolder: string, isKnownWord: (word: string) => boolean): WordNet {
  const senses: Sense[] = [];
  let nouns: ReadonlyMap<string, Synset> = new Map();
  for (const [partOfSpeech, suffix] of Object.entries(FILES) as [PartOfSpeech, string][]) {
    const synsets = readSynsets(readFileSync(`${dictFolder}/data.${suffix}`, 'utf8'), partOfSpeech);
    if (partOfSpeech === 'noun') nouns = synsets;
    senses.push(...readSenses(readFileSync(`${dictFolder}/index.${suffix}`, 'utf8'), synsets, isKnownWord));
  }
  return { nouns, senses };
}

function readSynsets(text: string, partOfSpeech: PartOfSpeech): Map<string, Synset> {
  const synsets = new Map<string, Synset>();
  for (const line of text.split('\n')) {
    if (!/^\d/.test(line)) continue; // the licence at the top is indented
    const bar = line.indexOf(' | ');
    const fields = line.slice(0, bar).split(' ');
    const numWords = Number.parseInt(fields[3]!, 16);
    const lemmas: string[] = [];
    for (let i = 0; i < numWords; i++)
      lemmas.push(fields[4 + 2 * i]!.replace(/\((a|p|ip)\)$/, '').replaceAll('_', ' '));
    const hypernyms: string[] = [];
    for (let i = 5 + 2 * numWords; i + 3 < fields.length; i += 4) if (fields[i] === '@') hypernyms.push(fields[i + 1]!);
    const gloss = splitGloss(line.slice(bar + 3));
    synsets.set(fields[0]!, {
      offset: fields[0]!,
      partOfSpeech,
      lexicographerFile: LEXICOGRAPHER_FILES[Number(fields[1])]!,
      lemmas,
      hypernyms,
      ...gloss,
    });
  }
  return synsets;
}

/** `a; b; "example one"; "example two"` → definition `a; b` and the examples without speakers. */
function splitGloss(gloss: string): { definition: string; examples: string[] } {
  const quote = gloss.search(/[;:,]?\s*"/);
  const definition = collapseSpaces(quote === -1 ? gloss : gloss.slice(0, quote)).replace(/[;:,]$/, '');
  const examples = Array.from(gloss.matchAll(/"([^"]+)"/g), (match) => collapseSpaces(match[1]!));
  return { definition, examples };
}

function readSenses(
  indexText: string,
  synsets: ReadonlyMap<string, Synset>,
  isKnownWord: (word: string) => boolean,
): Sense[] {
  const senses: Sense[] = [];
  for (const line of indexText.split('\n')) {
    if (line.startsWith(' ') || line === '') continue;
    const fields = line.trim().split(' ');
    const word = fields[0]!;
    if (!/^[a-z]{3,}$/.test(word) || !isKnownWord(word)) continue;
    const offsets = fields.slice(-Number(fields[2]));
    for (const [i, offset] of offsets.entries()) {
      const synset = synsets.get(offset)!;
      // The index is in lower case; only the synset shows that a word is a name.
      if (!synset.lemmas.includes(word) || synset.definition === '' || MARKED_AS_OFFENSIVE.test(synset.definition))
        continue;
      senses.push({ word, synset, senseNumber: i + 1 });
    }
  }
  return senses;
}

/** All ancestors of `synset` without itself, nearest first. */
export function listAncestors(synset: Synset, nouns: ReadonlyMap<string, Synset>): Synset[] {
  const found = new Map<string, Synset>();
  let level = synset.hypernyms;
  while (level.length > 0) {
    const next: string[] = [];
    for (const offset of level) {
      const parent = nouns.get(offset)!;
      if (found.has(offset)) continue;
      found.set(offset, parent);
      next.push(...parent.hypernyms);
    }
    level = next;
  }
  return [...found.values()];
}
