/**
 * Learns a Unigram vocabulary as SentencePiece does: seed pieces, then EM with pruning until the size asked for.
 *
 * Each pass: expected counts of the pieces (E), scores = digamma(count) − digamma(sum) (M, a sparse prior: Liang & Klein 2007), twice; then the
 * quarter of the pieces whose removal costs the least likelihood goes. There is no randomness: the same text gives the same bytes.
 * Source: Kudo 2018, "Subword Regularization", and unigram_model_trainer.cc of google/sentencepiece.
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
import { prunePieces } from './prune-pieces.ts';
import { findSeedPieces } from './seed-pieces.ts';
import { type TrainingWords, WordCounter } from './word-counts.ts';
import { WordLattice } from './word-lattice.ts';

export interface TrainUnigramOptions {
  /** Pieces of the finished model, pad, EOS and unk included; extra ids come on top. */
  readonly vocabSize: number;
  /** T5's nmt_nfkc unless given. */
  readonly normalizer?: NormalizerSpec;
  /** Share of the text's characters that must be known. */
  readonly characterCoverage?: number;
  readonly maxPieceCharacters?: number;
  /** Bound on the first vocabulary. */
  readonly maxSeeds?: number;
  readonly onPass?: (pass: TrainingPass) => void;
}

export interface TrainingPass {
  readonly numPieces: number;
  /** Mean negative log-likelihood of a word, nats. */
  readonly loss: number;
}

const SHRINKING_FACTOR = 0.75;
const NUM_SUB_ITERATIONS = 2;
const MIN_EXPECTED_COUNT = 0.5;
/** Pruning stops at this multiple of the size; the rest goes by score. */
const OVERSIZE = 1.1;
const MIN_SCORE_STEP = 0.0001;

const SPECIAL_PIECES: readonly Piece[] = [
  { text: '<pad>', score: 0, kind: 'control' },
  { text: '</s>', score: 0, kind: 'control' },
  { text: '<unk>', score: 0, kind: 'unknown' },
];

/** @throws CONFIG_INVALID where the text does not fit the size asked for, SOURCE_MALFORMED for a text too long */
export function trainUnigram(texts: Iterable<string>, options: TrainUnigramOptions): UnigramModel {
  const normalizer = options.normalizer ?? loadNmtNfkc();
  const counter = new WordCounter(normalizer);
  for (const text of texts) counter.add(text);
  return trainFromWords(counter, { ...options, normalizer });
}

/** The same from words that were counted before, with the counter's normalizer. @throws CONFIG_INVALID */
export function trainFromWords(
  counter: WordCounter,
  options: TrainUnigramOptions & { readonly normalizer: NormalizerSpec },
): UnigramModel {
  const { vocabSize, characterCoverage = 0.9995, maxPieceCharacters = 16, maxSeeds = 1_000_000 } = options;
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
  const seeds = findSeedPieces(words, { maxCharacters: maxPieceCharacters, maxSeeds });
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
    if (countPieces(scores) === numPieces) return; // nothing can go: the rest is chosen by score
  }
}

/** New scores from expected counts; what is hardly used goes. */
function maximize(scores: Float64Array, expected: Float64Array): void {
  let sum = 0;
  for (const count of expected) if (count >= MIN_EXPECTED_COUNT) sum += count;
  const logSum = digamma(sum);
  expected.forEach((count, id) => (scores[id] = count < MIN_EXPECTED_COUNT ? NaN : digamma(count) - logSum));
}

function countPieces(scores: Float64Array): number {
  return scores.reduce((count, score) => (Number.isNaN(score) ? count : count + 1), 0);
}

/** All required characters, then the best of the others, sorted by score. */
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
  // The first keys are the required characters. One that was pruned gets the lowest score, the more frequent the lower.
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
      `vocabSize: the text yields only ${most} pieces, ${vocabSize} were asked for; lower it or give more text`,
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
