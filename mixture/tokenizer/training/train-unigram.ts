/**
 * Learns a Unigram vocabulary as SentencePiece does: seed pieces, then EM and pruning until the requested size.
 *
 * Definition: a pass repeats EM twice: expected counts of the pieces (E), scores = digamma(count) − digamma(sum) (M, a
 * sparse prior: Liang & Klein 2007). Then it removes the quarter of the pieces whose removal costs the least
 * likelihood. The loss of a piece = its share of the words × (its log probability − that of the pieces that would
 * replace it, with its count added to theirs). There is no randomness: the same text gives the same bytes.
 * Source: Kudo 2018, "Subword Regularization", and unigram_model_trainer.cc (PruneSentencePieces) of
 * google/sentencepiece.
 */
import { TrainerError } from '../../../shared/errors.ts';
import { buildByteTrie } from '../byte-trie.ts';
import { loadNmtNfkc } from '../nmt-nfkc.ts';
import {
  DEFAULT_UNK_SURFACE,
  type NormalizerSpec,
  type Piece,
  SPACE_SYMBOL,
  type UnigramModel,
} from '../unigram-model.ts';
import { findSeedPieces } from './seed-pieces.ts';
import { type TrainingWords, WordCounter } from './word-counts.ts';
import { WordLattice } from './word-lattice.ts';

export interface TrainUnigramOptions {
  /** Number of pieces of the finished model, with pad, EOS and unk, without extra ids. */
  readonly vocabSize: number;
  /** Default: T5's nmt_nfkc. */
  readonly normalizer?: NormalizerSpec;
  /** Share of the characters of the text that the vocabulary must contain. */
  readonly characterCoverage?: number;
  readonly onPass?: (pass: TrainingPass) => void;
}

export interface TrainingPass {
  readonly numPieces: number;
  /** Mean negative log-likelihood of a word, nats. */
  readonly loss: number;
}

/** Characters of the longest piece. */
const MAX_PIECE_CHARACTERS = 16;
/** Largest number of substrings in the first vocabulary. */
const MAX_SEEDS = 1_000_000;
const SHRINKING_FACTOR = 0.75;
const NUM_SUB_ITERATIONS = 2;
const MIN_EXPECTED_COUNT = 0.5;
/** Pruning stops at this multiple of the size. The last pieces are removed by score. */
const OVERSIZE = 1.1;
const MIN_SCORE_STEP = 0.0001;

const SPECIAL_PIECES: readonly Piece[] = [
  { text: '<pad>', score: 0, kind: 'control' },
  { text: '</s>', score: 0, kind: 'control' },
  { text: '<unk>', score: 0, kind: 'unknown' },
];

/**
 * @throws CONFIG_INVALID if the text does not allow the requested size, SOURCE_MALFORMED for a text that is too long
 */
export function trainUnigram(texts: Iterable<string>, options: TrainUnigramOptions): UnigramModel {
  const normalizer = options.normalizer ?? loadNmtNfkc();
  const counter = new WordCounter(normalizer);
  for (const text of texts) counter.add(text);
  return trainFromWords(counter, { ...options, normalizer });
}

/** The same from counted words, with the normalizer of the counter. @throws CONFIG_INVALID */
export function trainFromWords(
  counter: WordCounter,
  options: TrainUnigramOptions & { readonly normalizer: NormalizerSpec },
): UnigramModel {
  const { vocabSize, characterCoverage = 0.9995 } = options;
  if (!Number.isInteger(vocabSize) || vocabSize < 4 || vocabSize > 1_000_000) {
    throw new TrainerError('CONFIG_INVALID', `vocabSize: expected an integer from 4 to 1000000, got ${vocabSize}`);
  }
  if (!(characterCoverage > 0 && characterCoverage <= 1)) {
    throw new TrainerError('CONFIG_INVALID', `characterCoverage: expected a share in (0, 1], got ${characterCoverage}`);
  }
  const words = counter.finish(characterCoverage);
  const numRequired = words.requiredCharacters.length + SPECIAL_PIECES.length;
  if (numRequired > vocabSize) {
    throw new TrainerError(
      'CONFIG_INVALID',
      `vocabSize: ${vocabSize} is less than the ${numRequired} pieces the characters of the text need; ` +
        'raise it or lower the character coverage',
    );
  }
  const seeds = findSeedPieces(words, { maxCharacters: MAX_PIECE_CHARACTERS, maxSeeds: MAX_SEEDS });
  const total = seeds.weights.reduce((sum, weight) => sum + weight, 0);
  const scores = seeds.weights.map((weight) => Math.log(weight) - Math.log(total));
  const lattice = new WordLattice(buildByteTrie(seeds.keys), scores);
  runPasses(lattice, scores, seeds.keys, words, Math.floor(vocabSize * OVERSIZE), options.onPass);
  return {
    pieces: [...SPECIAL_PIECES, ...finishPieces(seeds.keys, scores, words, lattice.minScore(), vocabSize)],
    normalizer: options.normalizer,
    byteFallback: false,
    unkSurface: DEFAULT_UNK_SURFACE,
  };
}

function runPasses(
  lattice: WordLattice,
  scores: Float64Array,
  keys: readonly Uint8Array[],
  words: TrainingWords,
  enough: number,
  onPass: TrainUnigramOptions['onPass'],
): void {
  const numWords = words.counts.reduce((sum, count) => sum + count, 0);
  for (;;) {
    let loss = 0;
    for (let iteration = 0; iteration < NUM_SUB_ITERATIONS; iteration++) {
      const expected = new Float64Array(scores.length);
      loss = -lattice.addExpectedCounts(words, expected) / numWords;
      maximize(scores, expected);
      lattice.scoresChanged();
    }
    const numPieces = countPieces(scores);
    onPass?.({ numPieces, loss });
    if (numPieces <= enough) return;
    prunePieces(lattice, scores, keys, words, Math.max(enough, Math.floor(SHRINKING_FACTOR * numPieces)));
    lattice.scoresChanged();
    if (countPieces(scores) === numPieces) return; // no piece can be removed: the rest is chosen by score
  }
}

/** New scores from expected counts. Hardly used pieces are removed. */
function maximize(scores: Float64Array, expected: Float64Array): void {
  let sum = 0;
  for (const count of expected) if (count >= MIN_EXPECTED_COUNT) sum += count;
  const logSum = digamma(sum);
  expected.forEach((count, id) => (scores[id] = count < MIN_EXPECTED_COUNT ? NaN : digamma(count) - logSum));
}

/**
 * Sets the scores of removed pieces to NaN. About `size` pieces stay; pieces without alternative always stay. A piece
 * costs nothing if its own text has a better segmentation without it, or if no best segmentation uses it.
 */
function prunePieces(
  lattice: WordLattice,
  scores: Float64Array,
  keys: readonly Uint8Array[],
  words: TrainingWords,
  size: number,
): void {
  const used = new Float64Array(scores.length);
  lattice.addBestCounts(words, used);
  const numUsed = used.reduce((sum, count) => sum + count, 0);
  const numWords = words.counts.reduce((sum, count) => sum + count, 0);
  const candidates: { id: number; loss: number }[] = [];
  const removed: number[] = [];
  let numKept = 0;
  scores.forEach((score, id) => {
    if (Number.isNaN(score)) return;
    const alternative = lattice.bestAlternative(keys[id]!);
    const count = used[id]!;
    if (alternative === undefined && count > 0) {
      numKept++;
      return;
    }
    if (alternative === undefined || count === 0 || alternative.score > score) {
      removed.push(id);
      return;
    }
    const logSumWithout = Math.log(numUsed + count * (alternative.ids.length - 1));
    const logProbabilityWithout = alternative.ids.reduce(
      (sum, other) => sum + Math.log(used[other]! + count) - logSumWithout,
      0,
    );
    const logProbability = Math.log(count) - Math.log(numUsed);
    candidates.push({ id, loss: (count / numWords) * (logProbability - logProbabilityWithout) });
  });
  candidates.sort((a, b) => b.loss - a.loss || a.id - b.id);
  for (const { id } of candidates.slice(Math.max(0, size - numKept))) removed.push(id);
  for (const id of removed) scores[id] = NaN;
}

function countPieces(scores: Float64Array): number {
  return scores.reduce((count, score) => (Number.isNaN(score) ? count : count + 1), 0);
}

/** All required characters and the best other pieces, sorted by score. */
function finishPieces(
  keys: readonly Uint8Array[],
  scores: Float64Array,
  { requiredCharacters }: TrainingWords,
  minScore: number,
  vocabSize: number,
): Piece[] {
  const toPiece = (key: Uint8Array, score: number): Piece => ({
    text: Buffer.from(key).toString('utf8').replaceAll(' ', SPACE_SYMBOL),
    score: Math.fround(score),
    kind: 'normal',
  });
  // The first keys are the required characters. A pruned one gets the lowest score; among these, more frequent ones are
  // lower.
  let numRevived = 0;
  const required = requiredCharacters.map((key, id) =>
    toPiece(key, Number.isNaN(scores[id]!) ? minScore + MIN_SCORE_STEP * numRevived++ : scores[id]!),
  );
  const others: Piece[] = [];
  for (let id = required.length; id < keys.length; id++) {
    if (!Number.isNaN(scores[id]!)) others.push(toPiece(keys[id]!, scores[id]!));
  }
  const byScore = (a: Piece, b: Piece): number => b.score - a.score || (a.text < b.text ? -1 : 1);
  const room = vocabSize - SPECIAL_PIECES.length - required.length;
  if (others.length < room) {
    const most = vocabSize - (room - others.length);
    throw new TrainerError(
      'CONFIG_INVALID',
      `vocabSize: the text yields only ${most} pieces, ${vocabSize} were requested; lower it or add more text`,
    );
  }
  return [...required, ...others.sort(byScore).slice(0, room)].sort(byScore);
}

/** ψ(x) for x > 0: recurrence up to 7, then the asymptotic series. */
function digamma(x: number): number {
  let result = 0;
  let at = x;
  for (; at < 7; at++) result -= 1 / at;
  at -= 0.5;
  const inverse2 = 1 / (at * at);
  const inverse4 = inverse2 * inverse2;
  return (
    result +
    Math.log(at) +
    inverse2 / 24 -
    (7 / 960) * inverse4 +
    (31 / 8064) * inverse4 * inverse2 -
    (127 / 30720) * inverse4 * inverse4
  );
}
