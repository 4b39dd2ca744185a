/**
 * Which examples of evaluation sets a train split has too: with the same inputs, or with 13 words in a row of inputs or targets. The examples are
 * in memory; train examples are passed by, task by task.
 *
 * Assumption: words that more than half of a set's first examples have in common are the prompt of the task, and no leak: those that begin the
 * inputs, and 13 words in a row anywhere.
 */
import { gramHashes, GRAM_WORDS, GramIndex } from './gram-index.ts';
import { textWords } from './text-words.ts';

/** Examples of a set among which its prompt is looked for. The words of fewer examples than MIN_PROMPT_EXAMPLES are no prompt. */
const PROMPT_SAMPLE = 1_000;
const MIN_PROMPT_EXAMPLES = 10;
/** About the bytes of an entry of a Map with a list of one number. */
const BYTES_AN_INPUT = 120;

/** Text of an example. Raw text has no inputs: a document is `texts` alone. */
export interface ComparedExample {
  readonly inputs?: string;
  /** Inputs and targets, or a document. */
  readonly texts: readonly string[];
}

/** The words of a set that its task puts into each example. */
export interface Prompt {
  /** The first words of the inputs. */
  readonly beginning: readonly string[];
  /** Hashes of grams. */
  readonly grams: ReadonlySet<number>;
}

/** What an example and a train split have in common. */
export interface Overlap {
  /** Ascending numbers of examples. */
  readonly sameInputs: readonly number[];
  readonly sharedGrams: readonly number[];
}

const SAME_INPUTS = 1;
const SHARED_GRAM = 2;

export class OverlapSearch {
  readonly #grams = new GramIndex();
  readonly #inputs = new Map<number, number[]>();
  #numExamples = 0;
  #found = new Uint8Array(0);

  /** Of the index; the marks of a task take a byte an example more. */
  get bytes(): number {
    return this.#grams.bytes + this.#inputs.size * BYTES_AN_INPUT + this.#numExamples;
  }

  get numExamples(): number {
    return this.#numExamples;
  }

  /** Adds the example with the next number. @param prompt of its set, by findPrompt */
  add({ inputs, texts }: ComparedExample, { beginning, grams }: Prompt): void {
    const example = this.#numExamples++;
    for (const text of texts) this.#grams.add(example, withoutBeginning(textWords(text), beginning), grams);
    if (inputs === undefined) return;
    const hash = hashInputs(inputs);
    if (hash === undefined) return;
    const others = this.#inputs.get(hash);
    if (others === undefined) this.#inputs.set(hash, [example]);
    else others.push(example);
  }

  /** Forgets what the train split before had in common. */
  startTrainSplit(): void {
    this.#found = new Uint8Array(this.#numExamples);
  }

  compare({ inputs, texts }: ComparedExample): void {
    const found = this.#found;
    for (const text of texts)
      this.#grams.search(textWords(text), (example) => {
        found[example]! |= SHARED_GRAM;
      });
    const hash = inputs === undefined ? undefined : hashInputs(inputs);
    if (hash === undefined) return;
    for (const example of this.#inputs.get(hash) ?? []) found[example]! |= SAME_INPUTS;
  }

  /** What the examples `from` to `to` (exclusive) have in common with the train split; numbers count from `from`. */
  overlap(from: number, to: number): Overlap {
    const numbersWith = (mark: number): number[] => {
      const numbers: number[] = [];
      for (let example = from; example < to; example++)
        if ((this.#found[example]! & mark) !== 0) numbers.push(example - from);
      return numbers;
    };
    return { sameInputs: numbersWith(SAME_INPUTS), sharedGrams: numbersWith(SHARED_GRAM) };
  }
}

/** @returns undefined for inputs without words: they are not compared */
function hashInputs(inputs: string): number | undefined {
  const words = textWords(inputs);
  if (words.length === 0) return undefined;
  for (const hash of gramHashes(words, words.length)) return hash;
  return undefined;
}

function withoutBeginning(words: readonly string[], beginning: readonly string[]): readonly string[] {
  return beginning.every((word, i) => words[i] === word) ? words.slice(beginning.length) : words;
}

export function findPrompt(examples: readonly ComparedExample[]): Prompt {
  const sample = examples.slice(0, PROMPT_SAMPLE);
  const isPrompt = (numExamples: number): boolean =>
    numExamples > sample.length / 2 && numExamples > MIN_PROMPT_EXAMPLES;
  const grams = new Map<number, number>();
  for (const { texts } of sample)
    count(new Set(texts.flatMap((text) => [...gramHashes(textWords(text), GRAM_WORDS)])), grams);
  return {
    beginning: commonBeginning(
      sample.flatMap(({ inputs }) => (inputs === undefined ? [] : [textWords(inputs)])),
      isPrompt,
    ),
    grams: new Set([...grams].filter(([, numExamples]) => isPrompt(numExamples)).map(([hash]) => hash)),
  };
}

/** The longest words with which enough of the texts begin. */
function commonBeginning(
  texts: readonly (readonly string[])[],
  isEnough: (numTexts: number) => boolean,
): readonly string[] {
  const beginning: string[] = [];
  for (let rest = texts; ;) {
    const at = beginning.length;
    const words = new Map<string, number>();
    count(
      rest.flatMap((text) => text[at] ?? []),
      words,
    );
    const [word, numTexts] = [...words].reduce((most, other) => (other[1] > most[1] ? other : most), ['', 0]);
    if (!isEnough(numTexts)) return beginning;
    beginning.push(word);
    rest = rest.filter((text) => text[at] === word);
  }
}

function count<Key>(keys: Iterable<Key>, counts: Map<Key, number>): void {
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
}
