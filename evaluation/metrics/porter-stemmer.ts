/**
 * The Porter stemmer (1980) with nltk's extensions, which rouge_score and nltk's METEOR use.
 *
 * Source: nltk.stem.porter in its default mode. Extensions: a table of irregular forms; words of one or two letters stay; "dies" and "died" give
 * "die"; "y" becomes "i" only after a consonant that is not the first letter; "alli", "bli", "fulli" and "logi" rules of step 2.
 */

const IRREGULAR = new Map(
  Object.entries({
    sky: ['sky', 'skies'],
    die: ['dying'],
    lie: ['lying'],
    tie: ['tying'],
    news: ['news'],
    inning: ['innings', 'inning'],
    outing: ['outings', 'outing'],
    canning: ['cannings', 'canning'],
    howe: ['howe'],
    proceed: ['proceed'],
    exceed: ['exceed'],
    succeed: ['succeed'],
  }).flatMap(([stem, words]) => words.map((word) => [word, stem] as const)),
);

/** One letter a character: `c` for a consonant, `v` for a vowel; a `y` is a vowel after a consonant. */
function shapeOf(word: string): string {
  let shape = '';
  for (const letter of word) {
    if ('aeiou'.includes(letter)) shape += 'v';
    else if (letter === 'y') shape += shape === '' || shape.endsWith('v') ? 'c' : 'v';
    else shape += 'c';
  }
  return shape;
}

/** Porter's m: the number of vowel-consonant sequences. */
function measure(stem: string): number {
  return shapeOf(stem).split('vc').length - 1;
}

function containsVowel(stem: string): boolean {
  return shapeOf(stem).includes('v');
}

/** Porter's *d. */
function endsWithDoubleConsonant(word: string): boolean {
  return word.length >= 2 && word.at(-1) === word.at(-2) && shapeOf(word).endsWith('c');
}

/** Porter's *o: consonant, vowel, consonant other than w, x, y; or (nltk) a word of a vowel and a consonant. */
function endsCvc(word: string): boolean {
  const shape = shapeOf(word);
  return shape === 'vc' || (shape.endsWith('cvc') && !'wxy'.includes(word.at(-1) ?? ''));
}

/** A suffix, its replacement, and the condition on what is before the suffix. */
type Rule = readonly [suffix: string, replacement: string, applies?: (stem: string) => boolean];

/** Applies the first rule whose suffix fits, if its condition holds; later rules are not tried. */
function applyFirst(word: string, rules: readonly Rule[]): string {
  for (const [suffix, replacement, applies] of rules) {
    if (!word.endsWith(suffix)) continue;
    const stem = word.slice(0, word.length - suffix.length);
    return applies === undefined || applies(stem) ? stem + replacement : word;
  }
  return word;
}

const isMeasured = (stem: string): boolean => measure(stem) > 0;
const isLong = (stem: string): boolean => measure(stem) > 1;

function step1a(word: string): string {
  if (word.endsWith('ies') && word.length === 4) return word.slice(0, -1);
  return applyFirst(word, [
    ['sses', 'ss'],
    ['ies', 'i'],
    ['ss', 'ss'],
    ['s', ''],
  ]);
}

function step1b(word: string): string {
  if (word.endsWith('ied')) return word.length === 4 ? word.slice(0, -1) : word.slice(0, -2);
  if (word.endsWith('eed')) return isMeasured(word.slice(0, -3)) ? word.slice(0, -1) : word;
  const suffix = ['ed', 'ing'].find((ending) => word.endsWith(ending) && containsVowel(word.slice(0, -ending.length)));
  if (suffix === undefined) return word;
  const stem = word.slice(0, -suffix.length);
  if (stem.endsWith('at') || stem.endsWith('bl') || stem.endsWith('iz')) return `${stem}e`;
  if (endsWithDoubleConsonant(stem)) return 'lsz'.includes(stem.at(-1) ?? '') ? stem : stem.slice(0, -1);
  return measure(stem) === 1 && endsCvc(stem) ? `${stem}e` : stem;
}

function step1c(word: string): string {
  return applyFirst(word, [['y', 'i', (stem) => stem.length > 1 && shapeOf(stem).endsWith('c')]]);
}

const STEP_2: readonly Rule[] = [
  ['ational', 'ate', isMeasured],
  ['tional', 'tion', isMeasured],
  ['enci', 'ence', isMeasured],
  ['anci', 'ance', isMeasured],
  ['izer', 'ize', isMeasured],
  ['bli', 'ble', isMeasured],
  ['alli', 'al', isMeasured],
  ['entli', 'ent', isMeasured],
  ['eli', 'e', isMeasured],
  ['ousli', 'ous', isMeasured],
  ['ization', 'ize', isMeasured],
  ['ation', 'ate', isMeasured],
  ['ator', 'ate', isMeasured],
  ['alism', 'al', isMeasured],
  ['iveness', 'ive', isMeasured],
  ['fulness', 'ful', isMeasured],
  ['ousness', 'ous', isMeasured],
  ['aliti', 'al', isMeasured],
  ['iviti', 'ive', isMeasured],
  ['biliti', 'ble', isMeasured],
  ['fulli', 'ful', isMeasured],
  ['logi', 'log', (stem) => isMeasured(`${stem}l`)],
];

function step2(word: string): string {
  if (word.endsWith('alli') && isMeasured(word.slice(0, -4))) return step2(word.slice(0, -2));
  return applyFirst(word, STEP_2);
}

const STEP_3: readonly Rule[] = [
  ['icate', 'ic', isMeasured],
  ['ative', '', isMeasured],
  ['alize', 'al', isMeasured],
  ['iciti', 'ic', isMeasured],
  ['ical', 'ic', isMeasured],
  ['ful', '', isMeasured],
  ['ness', '', isMeasured],
];

const STEP_4: readonly Rule[] = [
  ...['al', 'ance', 'ence', 'er', 'ic', 'able', 'ible', 'ant', 'ement', 'ment', 'ent'].map((suffix): Rule => [
    suffix,
    '',
    isLong,
  ]),
  ['ion', '', (stem) => isLong(stem) && 'st'.includes(stem.at(-1) ?? '')],
  ...['ou', 'ism', 'ate', 'iti', 'ous', 'ive', 'ize'].map((suffix): Rule => [suffix, '', isLong]),
];

function step5(word: string): string {
  let stem = word;
  if (word.endsWith('e')) {
    const shorter = word.slice(0, -1);
    if (isLong(shorter) || (measure(shorter) === 1 && !endsCvc(shorter))) stem = shorter;
  }
  return stem.endsWith('ll') && isLong(stem.slice(0, -1)) ? stem.slice(0, -1) : stem;
}

/** Stems by word: texts repeat words, and a stem costs eight passes over one. */
const known = new Map<string, string>();
const MAX_KNOWN = 100_000;

/** The stem of a word, in lower case. */
export function stem(word: string): string {
  const cached = known.get(word);
  if (cached !== undefined) return cached;
  const stemmed = computeStem(word.toLowerCase());
  if (known.size < MAX_KNOWN) known.set(word, stemmed);
  return stemmed;
}

function computeStem(word: string): string {
  const irregular = IRREGULAR.get(word);
  if (irregular !== undefined) return irregular;
  if (Array.from(word).length <= 2) return word;
  const inflected = step1c(step1b(step1a(word)));
  return step5(applyFirst(applyFirst(step2(inflected), STEP_3), STEP_4));
}
