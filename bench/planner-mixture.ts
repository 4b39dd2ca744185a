/**
 * A synthetic ExMix of full size: the 107 tasks and sizes of golden/mixing.json (17.5 M examples; StylePTB's 53,546 distributed evenly over its
 * 21 tasks) and 100 M segments of one denoising task, R = 2, K = 300,000, limits 512/114.
 *
 * Lengths are made up but typical: log-normal with the medians below (inputs, targets, in tokens), clipped to [2, limit]. A task has 4,096
 * samples, and the index of an example selects one. They are stored as in the product: for each example of a supervised task, 4 B of lengths
 * and 4 B of token offset.
 */
import { readFileSync } from 'node:fs';
import type { TaskLengths } from '../mixture/plan/planner.ts';
import { computeRates, PAPER_RATES } from '../mixture/plan/rates.ts';
import { computeSegmentLength, corruptedLengths } from '../mixture/plan/span-corruption.ts';
import { hashName, RandomStream } from '../shared/random.ts';

export const LIMITS = { inputsLimit: 512, targetsLimit: 114 };
export const NUM_SAMPLES = 4096;
const NUM_SEGMENTS = 100_000_000;

/** The first matching row applies: name pattern, median inputs, spread of inputs (sigma of the logarithm), median targets, spread of targets. */
const LENGTH_FAMILIES: readonly (readonly [RegExp, number, number, number, number])[] = [
  [/cnn|xsum|summ|wiki_?lingua|billsum|big_?patent|newsroom|samsum|multi_news|reddit/i, 480, 0.5, 70, 0.5],
  [/squad|boolq|record|multirc|drop|quac|coqa|race|hotpot|news_?qa|tweet|narrative|cosmos|duorc/i, 240, 0.5, 6, 0.6],
  [/imdb|yelp|amazon|civil|gpt|fever|zest|review/i, 180, 0.8, 4, 0.4],
  [/natural_?questions|trivia|web_?q|kilt|nq|eli5|wow|t_?rex|zsre|aida/i, 24, 0.4, 8, 0.6],
  [/schema|dialog|wizard|top|taskmaster|multiwoz|clinc|hwu|banking|restaurant|personachat/i, 90, 0.7, 24, 0.6],
  [/styleptb|shakespear|paws|atis|geo|jobs|cogs|parsing|e2e|dart|web_?nlg|common|totto/i, 40, 0.5, 28, 0.5],
];
const DEFAULT_FAMILY = [/./, 60, 0.5, 4, 0.4] as const;

export interface SyntheticTask extends TaskLengths {
  readonly kind: 'supervised' | 'denoising';
  /** Inputs length and targets length of each example, alternating; empty for denoising. */
  readonly pairs: Uint16Array;
  /** Offset of the first token of each example; empty for denoising. */
  readonly starts: Uint32Array;
}

export interface SyntheticMixture {
  readonly tasks: readonly SyntheticTask[];
  readonly shares: readonly number[];
}

/** Names and sizes of all tasks, with the denoising task last. */
function taskSizes(): { name: string; kind: SyntheticTask['kind']; numExamples: number }[] {
  interface GoldenMixing {
    tasks_without_size: string[];
    with_styleptb_total: { per_task: Record<string, { train_examples: number }> };
  }
  const golden = JSON.parse(readFileSync(new URL('../golden/mixing.json', import.meta.url), 'utf8')) as GoldenMixing;
  const sized = Object.entries(golden.with_styleptb_total.per_task);
  return [
    ...sized.map(([name, task]) => ({ name, kind: 'supervised' as const, numExamples: task.train_examples })),
    ...golden.tasks_without_size.map((name, i) => ({
      name,
      kind: 'supervised' as const,
      numExamples: i < 17 ? 2550 : 2549,
    })),
    { name: 'c4_denoising', kind: 'denoising', numExamples: NUM_SEGMENTS },
  ];
}

/** Samples of a task: inputs length and targets length, alternating. */
function samplePairs(name: string): Uint16Array {
  const [, inputs, inputsSpread, targets, targetsSpread] =
    LENGTH_FAMILIES.find(([pattern]) => pattern.test(name)) ?? DEFAULT_FAMILY;
  const random = new RandomStream([1, hashName(name)]);
  const sample = (median: number, spread: number, limit: number) =>
    Math.max(2, Math.min(limit, Math.round(median * Math.exp(spread * random.nextNormal()))));
  const pairs = new Uint16Array(2 * NUM_SAMPLES);
  for (let i = 0; i < NUM_SAMPLES; i++) {
    pairs[2 * i] = sample(inputs, inputsSpread, LIMITS.inputsLimit);
    pairs[2 * i + 1] = sample(targets, targetsSpread, LIMITS.targetsLimit);
  }
  return pairs;
}

function makeTask({ name, kind, numExamples }: ReturnType<typeof taskSizes>[number]): SyntheticTask {
  if (kind === 'denoising') {
    const { inputsLength, targetsLength } = corruptedLengths(computeSegmentLength(LIMITS));
    const lengths = { inputsLength: () => inputsLength, targetsLength: () => targetsLength };
    return { name, kind, numExamples, pairs: new Uint16Array(0), starts: new Uint32Array(0), ...lengths };
  }
  const samples = samplePairs(name);
  const pairs = new Uint16Array(2 * numExamples);
  for (let first = 0; first < pairs.length; first += samples.length)
    pairs.set(samples.subarray(0, Math.min(samples.length, pairs.length - first)), first);
  const starts = new Uint32Array(numExamples);
  for (let i = 1; i < numExamples; i++) starts[i] = starts[i - 1]! + pairs[2 * i - 2]! + pairs[2 * i - 1]!;
  return {
    name,
    kind,
    numExamples,
    pairs,
    starts,
    inputsLength: (index) => pairs[2 * index]!,
    targetsLength: (index) => pairs[2 * index + 1]!,
  };
}

export function makeSyntheticMixture(): SyntheticMixture {
  const sizes = taskSizes();
  return { tasks: sizes.map(makeTask), shares: computeRates(sizes, PAPER_RATES).map(({ share }) => share) };
}
