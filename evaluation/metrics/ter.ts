/**
 * Translation edit rate (Snover et al. 2006): edits and shifts of phrases, divided by the mean reference length. Source: sacrebleu 2.6.0, after Tercom.
 *
 * Shifts are searched greedily with Tercom's limits and its order of preference, so the figures are those of the reference and not the least possible.
 */
import { applyRules, NUMBER_RULES, PUNCTUATION_RULE, unescapeEntities, type TextRule } from './mteval-rules.ts';
import { splitWords, trimEnd } from './python-text.ts';
import { checkPaired, sumScorer, type Metric } from './scorer.ts';

export interface TerOptions {
  /** Tercom's normalization: entities, punctuation apart. */
  readonly normalized?: boolean;
  /** Leaves out punctuation. */
  readonly noPunctuation?: boolean;
  readonly caseSensitive?: boolean;
  /** Splits CJK text into characters (with `normalized`), leaves out its punctuation (with `noPunctuation`). */
  readonly asianSupport?: boolean;
}

const MAX_SHIFT_LENGTH = 10;
const MAX_SHIFT_DISTANCE = 50;
const MAX_SHIFT_CANDIDATES = 1_000;
const BEAM_WIDTH = 25;

const ASIAN_PUNCTUATION = /([\u3001\u3002\u3008-\u3011\u3014-\u301f\uff61-\uff65\u30fb])/gu;
const FULL_WIDTH_PUNCTUATION = /([\uff0e\uff0c\uff1f\uff1a\uff1b\uff01\uff02\uff08\uff09])/gu;

const NORMALIZATION: readonly TextRule[] = [PUNCTUATION_RULE, [/'s /gu, " 's "], [/'s$/gu, " 's"], ...NUMBER_RULES];

/** The blocks as sacrebleu has them; the fourth one reaches from U+3200 to U+3F22 there. */
const ASIAN_NORMALIZATION: readonly TextRule[] = [
  [/([\u4e00-\u9fff\u3400-\u4dbf])/gu, ' $1 '],
  [/([\u31c0-\u31ef\u2e80-\u2eff])/gu, ' $1 '],
  [/([\u3300-\u33ff\uf900-\ufaff\ufe30-\ufe4f])/gu, ' $1 '],
  [/([\u3200-\u3f22])/gu, ' $1 '],
  [/(^|^[\u3040-\u309f])([\u3040-\u309f]+)(?=$|^[\u3040-\u309f])/gu, '$1 $2 '],
  [/(^|^[\u30a0-\u30ff])([\u30a0-\u30ff]+)(?=$|^[\u30a0-\u30ff])/gu, '$1 $2 '],
  [/(^|^[\u31f0-\u31ff])([\u31f0-\u31ff]+)(?=$|^[\u31f0-\u31ff])/gu, '$1 $2 '],
  [ASIAN_PUNCTUATION, ' $1 '],
  [FULL_WIDTH_PUNCTUATION, ' $1 '],
];

function tercomWords(text: string, options: TerOptions): string[] {
  let line = trimEnd(text);
  if (line === '') return [];
  if (options.caseSensitive !== true) line = line.toLowerCase();
  if (options.normalized === true) {
    line = line.replaceAll('\n-', '').replaceAll('\n', ' ');
    line = applyRules(` ${unescapeEntities(line)} `, NORMALIZATION);
    if (options.asianSupport === true) line = applyRules(line, ASIAN_NORMALIZATION);
  }
  if (options.noPunctuation === true) {
    line = line.replace(/[.,?:;!"()]/gu, '');
    if (options.asianSupport === true) line = line.replace(ASIAN_PUNCTUATION, '').replace(FULL_WIDTH_PUNCTUATION, '');
  }
  return splitWords(line);
}

/** sacrebleu normalizes references two times, which splits some of them further. */
function twice(reference: string, options: TerOptions): string[] {
  return tercomWords(tercomWords(reference, options).join(' '), options);
}

/** `ter`, in percent: the fewest edits over the references, divided by their mean length. */
export function ter(options: TerOptions = {}): Metric<readonly string[], string> {
  return (targets, predictions) => {
    checkPaired('ter', targets, predictions);
    const rows = targets.map((references, at) => {
      const prediction = tercomWords(predictions[at]!, options);
      const wanted = references.map((reference) => twice(reference, options));
      const numEdits = Math.min(...wanted.map((reference) => countEdits(prediction, reference)));
      return [numEdits, wanted.reduce((sum, { length }) => sum + length, 0) / wanted.length];
    });
    return sumScorer(rows, 2, ([numEdits = 0, referenceLength = 0]) => ({
      ter: referenceLength > 0 ? (100 * numEdits) / referenceLength : numEdits > 0 ? 100 : 0,
    }));
  };
}

/** Edits and shifts that turn the prediction into the reference. */
function countEdits(prediction: readonly string[], reference: readonly string[]): number {
  if (reference.length === 0) return prediction.length;
  const search = new ShiftSearch(reference);
  let words = prediction;
  let numShifts = 0;
  for (;;) {
    const shift = search.findBest(words);
    if (search.isExhausted || shift === undefined || shift.gain <= 0) break;
    numShifts++;
    words = shift.words;
  }
  return numShifts + search.distance(words).cost;
}

/** The cheapest edits of the prediction, from its start. */
interface Path {
  readonly cost: number;
  readonly operations: readonly Operation[];
}

/** An edit of the prediction; 0 in a table is a place that the beam left out. */
const Operation = { equal: 1, substitution: 2, deletion: 3, insertion: 4 } as const;
type Operation = (typeof Operation)[keyof typeof Operation];

interface Shift {
  /** Edits that the shift saves. */
  readonly gain: number;
  readonly length: number;
  readonly start: number;
  readonly target: number;
  readonly words: readonly string[];
}

class ShiftSearch {
  #numCandidates = 0;
  /** Rows of the table of distances by the words of the prediction so far: shifted predictions share their beginnings. */
  readonly #rows = new Map<string, DistanceRow>();

  readonly #reference: readonly string[];

  constructor(reference: readonly string[]) {
    this.#reference = reference;
  }

  get isExhausted(): boolean {
    return this.#numCandidates >= MAX_SHIFT_CANDIDATES;
  }

  /** The shift that saves the most edits; undefined if there is none to try. */
  findBest(words: readonly string[]): Shift | undefined {
    const before = this.distance(words);
    const alignment = alignReference(before.operations);
    let best: Shift | undefined;
    for (const [start, referenceStart, length] of commonPhrases(words, this.#reference)) {
      const isRight = (errors: readonly boolean[], from: number): boolean =>
        !errors.slice(from, from + length).includes(true);
      const aligned = alignment.wordOf[referenceStart] ?? -1;
      const isInside = start <= aligned && aligned < start + length;
      if (isRight(alignment.isWrongWord, start) || isRight(alignment.isWrongReference, referenceStart) || isInside)
        continue;
      for (const target of shiftTargets(alignment.wordOf, referenceStart, length)) {
        const shifted = shiftWords(words, start, length, target);
        const shift = { gain: before.cost - this.distance(shifted).cost, length, start, target, words: shifted };
        this.#numCandidates++;
        if (best === undefined || isPreferred(shift, best)) best = shift;
      }
      if (this.isExhausted) break;
    }
    return best;
  }

  /** Levenshtein distance within a beam around the diagonal, with the path. Preference on a tie: substitution, deletion, insertion. */
  distance(words: readonly string[]): Path {
    const numReference = this.#reference.length;
    const ratio = words.length === 0 ? 1 : numReference / words.length;
    const beam = BEAM_WIDTH < ratio / 2 ? Math.ceil(ratio / 2 + BEAM_WIDTH) : BEAM_WIDTH;
    const table = [initialRow(numReference)];
    let key = String(words.length);
    for (const [at, word] of words.entries()) {
      const isLast = at === words.length - 1;
      key += ` ${word}`;
      const previous = table[at] ?? initialRow(numReference);
      let row = isLast ? undefined : this.#rows.get(key);
      if (row === undefined) {
        const diagonal = Math.floor((at + 1) * ratio);
        const from = Math.max(0, diagonal - beam);
        const end = isLast ? numReference + 1 : Math.min(numReference + 1, diagonal + beam);
        row = nextRow(previous, word, this.#reference, from, end);
        if (!isLast && this.#rows.size < 10_000) this.#rows.set(key, row);
      }
      table.push(row);
    }
    return tracePath(table, words.length, numReference);
  }
}

interface DistanceRow {
  readonly costs: Float64Array;
  readonly operations: Uint8Array;
}

function initialRow(numReference: number): DistanceRow {
  return {
    costs: Float64Array.from({ length: numReference + 1 }, (_, column) => column),
    operations: new Uint8Array(numReference + 1).fill(Operation.insertion),
  };
}

function nextRow(
  previous: DistanceRow,
  word: string,
  reference: readonly string[],
  from: number,
  end: number,
): DistanceRow {
  const costs = new Float64Array(reference.length + 1).fill(1e16);
  const operations = new Uint8Array(reference.length + 1);
  for (let column = from; column < end; column++) {
    let cost = previous.costs[column]! + 1;
    let operation: Operation = Operation.deletion;
    if (column > 0) {
      const isEqual = word === reference[column - 1];
      const diagonal = previous.costs[column - 1]! + (isEqual ? 0 : 1);
      if (diagonal <= cost) [cost, operation] = [diagonal, isEqual ? Operation.equal : Operation.substitution];
      const inserted = costs[column - 1]! + 1;
      if (inserted < cost) [cost, operation] = [inserted, Operation.insertion];
    }
    if (cost >= 1e16) continue;
    costs[column] = cost;
    operations[column] = operation;
  }
  return { costs, operations };
}

function tracePath(table: readonly DistanceRow[], numWords: number, numReference: number): Path {
  const operations: Operation[] = [];
  let row = numWords;
  let column = numReference;
  while (row > 0 || column > 0) {
    const operation = table[row]!.operations[column] as Operation;
    operations.push(operation);
    if (operation !== Operation.insertion) row--;
    if (operation !== Operation.deletion) column--;
  }
  return { cost: table[numWords]?.costs[numReference] ?? 0, operations: operations.reverse() };
}

interface Alignment {
  /** For each word of the reference, the word of the prediction at or before its place; -1 before the first. */
  readonly wordOf: readonly number[];
  readonly isWrongWord: readonly boolean[];
  readonly isWrongReference: readonly boolean[];
}

function alignReference(operations: readonly Operation[]): Alignment {
  const wordOf: number[] = [];
  const isWrongWord: boolean[] = [];
  const isWrongReference: boolean[] = [];
  for (const operation of operations) {
    const isWrong = operation !== Operation.equal;
    if (operation !== Operation.insertion) isWrongWord.push(isWrong);
    if (operation === Operation.deletion) continue;
    wordOf.push(isWrongWord.length - 1);
    isWrongReference.push(isWrong);
  }
  return { wordOf, isWrongWord, isWrongReference };
}

/** Phrases of at most 10 words that both texts have, at most 50 words apart. */
function* commonPhrases(
  words: readonly string[],
  reference: readonly string[],
): Generator<readonly [start: number, referenceStart: number, length: number]> {
  for (let start = 0; start < words.length; start++) {
    for (let referenceStart = 0; referenceStart < reference.length; referenceStart++) {
      if (Math.abs(referenceStart - start) > MAX_SHIFT_DISTANCE) continue;
      const end = Math.min(MAX_SHIFT_LENGTH, words.length - start, reference.length - referenceStart);
      for (let length = 0; length < end && words[start + length] === reference[referenceStart + length]; length++) {
        yield [start, referenceStart, length + 1];
      }
    }
  }
}

/** Places to move a phrase to: before the text, and behind the words that its reference words are aligned with. */
function shiftTargets(wordOf: readonly number[], referenceStart: number, length: number): number[] {
  const targets: number[] = [];
  for (let offset = -1; offset < length; offset++) {
    const place = referenceStart + offset;
    if (place >= wordOf.length) break;
    const target = place === -1 ? 0 : (wordOf[place] ?? -1) + 1;
    if (target !== targets.at(-1)) targets.push(target);
  }
  return targets;
}

function shiftWords(words: readonly string[], start: number, length: number, target: number): string[] {
  const phrase = words.slice(start, start + length);
  if (target < start)
    return [...words.slice(0, target), ...phrase, ...words.slice(target, start), ...words.slice(start + length)];
  if (target > start + length) {
    return [...words.slice(0, start), ...words.slice(start + length, target), ...phrase, ...words.slice(target)];
  }
  return [
    ...words.slice(0, start),
    ...words.slice(start + length, length + target),
    ...phrase,
    ...words.slice(length + target),
  ];
}

/** Tercom's order: the largest gain, the longest phrase, the earliest start, the earliest target, then the later words in code point order. */
function isPreferred(shift: Shift, best: Shift): boolean {
  if (shift.gain !== best.gain) return shift.gain > best.gain;
  if (shift.length !== best.length) return shift.length > best.length;
  if (shift.start !== best.start) return shift.start < best.start;
  if (shift.target !== best.target) return shift.target < best.target;
  const at = shift.words.findIndex((word, place) => word !== best.words[place]);
  return at !== -1 && shift.words[at]! > best.words[at]!;
}
