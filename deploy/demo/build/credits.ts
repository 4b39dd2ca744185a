/** Duty: source and licence of each file in deploy/demo/data, for the README's table and for NOTICES.md. */

export interface Credit {
  /** Short form for the table. */
  readonly source: string;
  readonly licence: string;
  /** File names in deploy/demo/licences. */
  readonly notices: readonly string[];
}

const WORDNET: Credit = { source: 'WordNet 3.1', licence: 'WordNet', notices: ['wordnet.txt'] };
const publicBible = (source: string, ...names: string[]): Credit => ({
  source,
  licence: 'public domain',
  notices: names.map((name) => `bible-${name}-public-domain.txt`),
});
const ADDRESSES: Credit = {
  source: 'State of the Union (stdlib)',
  licence: 'PDDL 1.0, CC0 1.0',
  notices: ['sotu-pddl-cc0.txt'],
};

/** File name in deploy/demo/data → credit. */
export const CREDITS: Readonly<Record<string, Credit>> = {
  'wn_define.jsonl.gz': WORDNET,
  'wn_reverse.jsonl.gz': WORDNET,
  'wn_cloze.csv.gz': WORDNET,
  'wn_entails.jsonl.gz': WORDNET,
  'wn_synonym.jsonl.gz': WORDNET,
  'wn_supersense.jsonl.gz': WORDNET,
  'satire.csv': {
    source: "Devil's Dictionary, WordNet 3.1",
    licence: 'public domain, WordNet',
    notices: ['devils-dictionary-public-domain.txt', 'wordnet.txt'],
  },
  'kjv_to_web.jsonl.gz': publicBible('KJV, WEB', 'kjv', 'web'),
  'kjv_web_match.jsonl.gz': publicBible('KJV, WEB', 'kjv', 'web'),
  'bible_en_es.jsonl.gz': publicBible('WEB, Reina-Valera 1909', 'web', 'rv1909'),
  'denoising_bible.txt.gz': publicBible('WEB, KJV', 'web', 'kjv'),
  'sotu_president.jsonl.gz': ADDRESSES,
  'denoising_sotu.txt.gz': ADDRESSES,
  'country_qa.jsonl': { source: 'mledoze/countries', licence: 'ODbL 1.0', notices: ['world-countries-odbl.txt'] },
  'cmudict_g2p.tsv.gz': {
    source: 'CMUdict',
    licence: 'BSD-2-Clause, ISC',
    notices: ['cmudict-bsd-2-clause.txt', 'cmu-pronouncing-dictionary-isc.txt'],
  },
  'british_to_american.tsv': {
    source: 'american-british-english-translator',
    licence: 'MIT',
    notices: ['american-british-english-translator-mit.txt'],
  },
  'emoji.csv': {
    source: 'Unicode emoji names',
    licence: 'Unicode-3.0, MIT',
    notices: ['unicode-v3.txt', 'unicode-emoji-json-mit.txt'],
  },
};
