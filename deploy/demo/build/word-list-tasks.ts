/** Duty: tasks from lists of words or facts: pronunciation, spelling, emoji, countries. */

import { z } from 'zod';
import { TrainerError } from '../../../shared/errors.ts';
import type { Row } from './file-writers.ts';
import { EVALUATION_ROWS, purposeOf, splitOfCountry, splitOfEmoji, type Split } from './held-out.ts';
import { sampleInOrder } from './seeded-sampling.ts';

/** Offensive words, excluded from all tasks. */
const COARSE =
  /fuck|shit|cunt|slut|bitch|whore|twat|^(nigg|fag|kike|spic|cock|dick|piss|wank)|^(tit|tits|ass|asses|rape|rapes|raped)$/;

/**
 * CMUdict: word → ARPAbet phonemes with stress digits, without the offensive words. The package's only file is a
 * JavaScript object in JSON syntax.
 */
export function readPronunciations(moduleText: string): ReadonlyMap<string, string> {
  const entries = Array.from(moduleText.matchAll(/^ {2}("(?:[^"\\]|\\.)*"): "([A-Z0-9 ]+)",?$/gm), (match) => {
    const word = z.string().parse(JSON.parse(match[1]!));
    return [word, match[2]!] as const;
  });
  if (entries.length < 100_000)
    throw new TrainerError('SOURCE_UNREADABLE', `CMUdict: expected over 100,000 entries, found ${entries.length}`);
  return new Map(entries.filter(([word]) => !COARSE.test(word)));
}

/** Words of 3 to 14 letters with their first pronunciation. */
export function buildPronunciation(
  pronunciations: ReadonlyMap<string, string>,
  split: Split,
  splitOfWord: (word: string) => Split,
): Row[] {
  const plain = Array.from(pronunciations).filter(
    ([word]) => /^[a-z]{3,14}$/.test(word) && splitOfWord(word) === split,
  );
  const numRows = split === 'train' ? 40_000 : EVALUATION_ROWS;
  return sampleInOrder(plain, numRows, purposeOf('cmudict_g2p', split)).map(([word, phonemes]) => ({ word, phonemes }));
}

/** British spelling → American spelling. */
export function readSpellings(jsonText: string): ReadonlyMap<string, string> {
  return new Map(Object.entries(z.record(z.string(), z.string()).parse(JSON.parse(jsonText))));
}

export function buildSpelling(
  spellings: ReadonlyMap<string, string>,
  split: Split,
  splitOfWord: (word: string) => Split,
): Row[] {
  return Array.from(spellings, ([british, american]) => ({ british, american })).filter(
    ({ british }) => splitOfWord(british) === split,
  );
}

const emojiSchema = z.record(z.string(), z.object({ name: z.string(), group: z.string(), emoji_version: z.string() }));

/**
 * Code points, name and group of each emoji. Both emoji tasks use the file. Code points (`1F1F5 1F1EA`) let a
 * vocabulary without emoji read them. We drop U+FE0F, which only requests the coloured picture.
 */
export function buildEmoji(jsonText: string, split: Split): Row[] {
  const rows = Object.entries(emojiSchema.parse(JSON.parse(jsonText))).map(
    ([emoji, { name, group, emoji_version: version }]) => {
      const codePoints = Array.from(emoji, (character) => character.codePointAt(0)!.toString(16).toUpperCase());
      return { emoji, code_points: codePoints.filter((hex) => hex !== 'FE0F').join(' '), name, group, version };
    },
  );
  return rows.filter((row) => splitOfEmoji(row.code_points) === split);
}

const nameSchema = z.object({ common: z.string(), official: z.string() });
const countrySchema = z.object({
  name: nameSchema,
  cca3: z.string(),
  tld: z.array(z.string()),
  unMember: z.boolean(),
  independent: z.boolean().nullable(),
  currencies: z.union([z.record(z.string(), z.object({ name: z.string() })), z.array(z.never())]),
  idd: z.object({ root: z.string(), suffixes: z.array(z.string()) }),
  capital: z.array(z.string()),
  subregion: z.string(),
  languages: z.record(z.string(), z.string()),
  translations: z.record(z.string(), nameSchema),
  landlocked: z.boolean(),
  demonyms: z.object({ eng: z.object({ m: z.string() }) }),
});

const NEEDS_ARTICLE =
  /^(United|Netherlands|Philippines|Bahamas|Gambia|Maldives|Comoros|Seychelles|Dominican Republic|Central African|Republic|DR Congo)|Islands$/;

/** Closed-book questions about the members of the United Nations. */
export function buildCountries(jsonText: string, split: Split): Row[] {
  const countries = z.array(countrySchema).parse(JSON.parse(jsonText));
  return countries
    .filter(({ unMember, independent }) => unMember && independent === true)
    .filter(({ name }) => splitOfCountry(name.common) === split)
    .flatMap((country) => askAbout(country));
}

function askAbout(country: z.infer<typeof countrySchema>): Row[] {
  const { common } = country.name;
  const named = NEEDS_ARTICLE.test(common) ? `the ${common}` : common;
  const languages = Object.values(country.languages);
  const currencies = Object.values(country.currencies);
  const { root, suffixes } = country.idd;
  const asked: [question: string, answer: string | undefined][] = [
    [`What is the capital of ${named}?`, country.capital.length === 1 ? country.capital[0] : undefined],
    [`${country.capital[0] ?? ''} is the capital of which country?`, country.capital.length === 1 ? common : undefined],
    [`In which part of the world is ${named}?`, country.subregion],
    [`What languages are official in ${named}?`, languages.length <= 4 ? languages.join(', ') : undefined],
    [`What currency is used in ${named}?`, currencies.map(({ name }) => name).join(', ')],
    [`What is a citizen of ${named} called?`, country.demonyms.eng.m],
    [`Is ${named} landlocked?`, country.landlocked ? 'yes' : 'no'],
    [`What is the full name of ${named}?`, country.name.official === common ? undefined : country.name.official],
    [`How do you say ${common} in Spanish?`, country.translations['spa']?.common],
    [`What is the internet domain of ${named}?`, country.tld[0]],
    [`What is the telephone code of ${named}?`, suffixes.length === 1 ? `${root}${suffixes[0] ?? ''}` : root],
    [`What is the three letter code of ${named}?`, country.cca3],
  ];
  return asked.flatMap(([question, answer]) =>
    answer === undefined || answer === '' ? [] : [{ country: common, question, answer }],
  );
}
