/**
 * METEOR as nltk computes it (Lavie & Agarwal 2007): words matched exactly, then by stem, then by synonym; a penalty for broken order.
 *
 * Source: nltk.translate.meteor_score 3.10. Its synonym stage sees the stems that the second stage left, so 'larg' finds nothing. The official
 * METEOR 1.5 has paraphrases and another alignment: its figures are others.
 */
import { splitWords } from './python-text.ts';
import { stem } from './porter-stemmer.ts';
import { checkPaired, meanScorer, type Metric } from './scorer.ts';

/** The synonyms of a word, the word not among them; a WordNet behind an interface (wordnet.ts). */
export type Synonyms = (word: string) => Iterable<string>;

export interface MeteorOptions {
  /** Weight of precision against recall. */
  readonly alpha?: number;
  /** Shape of the penalty. */
  readonly beta?: number;
  /** Weight of the penalty. */
  readonly gamma?: number;
  readonly stems?: boolean;
  /** Left out: without synonyms. */
  readonly synonyms?: Synonyms;
}

interface Word {
  readonly place: number;
  readonly text: string;
}

type Match = readonly [predictionPlace: number, referencePlace: number];

/** `meteor`, a fraction: the mean over examples of the best reference. */
export function meteor(options: MeteorOptions = {}): Metric<readonly string[], string> {
  return (targets, predictions) => {
    checkPaired('meteor', targets, predictions);
    const rows = targets.map((references, at) => [
      Math.max(...references.map((reference) => sentenceMeteor(reference, predictions[at]!, options))),
    ]);
    return meanScorer(['meteor'], rows);
  };
}

function sentenceMeteor(reference: string, prediction: string, options: MeteorOptions): number {
  const { alpha = 0.9, beta = 3, gamma = 0.5 } = options;
  const wanted = splitWords(reference).map((word) => word.toLowerCase());
  const predicted = splitWords(prediction).map((word) => word.toLowerCase());
  const matches = align(predicted, wanted, options);
  if (matches.length === 0) return 0;
  const precision = matches.length / predicted.length;
  const recall = matches.length / wanted.length;
  const fmean = (precision * recall) / (alpha * precision + (1 - alpha) * recall);
  return (1 - gamma * (countChunks(matches) / matches.length) ** beta) * fmean;
}

/** Matched places, in the order of the prediction. */
function align(prediction: readonly string[], reference: readonly string[], options: MeteorOptions): Match[] {
  const matches: Match[] = [];
  let predicted: Word[] = prediction.map((text, place) => ({ place, text }));
  let wanted: Word[] = reference.map((text, place) => ({ place, text }));
  const match = (alternatives: (text: string) => Iterable<string>): void => {
    const stage = matchWords(predicted, wanted, alternatives);
    matches.push(...stage.matches);
    predicted = stage.predicted;
    wanted = stage.wanted;
  };
  match((text) => [text]);
  if (options.stems !== false) {
    const toStem = ({ place, text }: Word): Word => ({ place, text: stem(text) });
    predicted = predicted.map(toStem);
    wanted = wanted.map(toStem);
    match((text) => [text]);
  }
  const synonyms = options.synonyms;
  if (synonyms !== undefined) match((text) => [text, ...synonyms(text)]);
  return matches.sort(([a], [b]) => a - b);
}

/** Matches from the end: each word of the prediction with the last word of the reference, not matched yet, that is one of its alternatives. */
function matchWords(
  predicted: readonly Word[],
  wanted: readonly Word[],
  alternatives: (text: string) => Iterable<string>,
): { matches: Match[]; predicted: Word[]; wanted: Word[] } {
  const places = new Map<string, number[]>();
  wanted.forEach(({ text }, at) => {
    const known = places.get(text);
    if (known === undefined) places.set(text, [at]);
    else known.push(at);
  });
  const matches: Match[] = [];
  const matchedPrediction = new Set<number>();
  const matchedReference = new Set<number>();
  for (let at = predicted.length - 1; at >= 0; at--) {
    const word = predicted[at];
    if (word === undefined) continue;
    let best: number[] | undefined;
    for (const text of alternatives(word.text)) {
      const found = places.get(text);
      if ((found?.at(-1) ?? -1) > (best?.at(-1) ?? -1)) best = found;
    }
    const last = best?.pop();
    if (last === undefined) continue;
    matchedPrediction.add(at);
    matchedReference.add(last);
    matches.push([word.place, wanted[last]?.place ?? -1]);
  }
  return {
    matches,
    predicted: predicted.filter((_, at) => !matchedPrediction.has(at)),
    wanted: wanted.filter((_, at) => !matchedReference.has(at)),
  };
}

/** Runs of matches that are neighbours on both sides. */
function countChunks(matches: readonly Match[]): number {
  return matches.filter(([predicted, wanted], at) => {
    const before = matches[at - 1];
    return before === undefined || before[0] + 1 !== predicted || before[1] + 1 !== wanted;
  }).length;
}
