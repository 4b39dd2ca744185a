/**
 * Text → ids in the shapes that shards hold: supervised examples (inputs, EOS, targets, EOS, each cut to its feature length with
 * the EOS kept) and denoising segments (documents one after the other, cut into equal parts).
 */
import { TrainerError } from '../../shared/errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { FeatureLengths, TextPair } from '../tasks/task.ts';

export type EncodedExample =
  | {
      readonly ok: true;
      /** Inputs, then targets; valid until the next call. */
      readonly tokens: Int32Array;
      readonly inputsLength: number;
      /** Tokens cut from each; 0 where it fits. */
      readonly cut: { readonly inputs: number; readonly targets: number };
    }
  | { readonly ok: false; readonly reason: string };

/** Ids of a text in memory that is used again and grows as needed. */
export class TextIds {
  readonly #tokenizer: Tokenizer;
  ids = new Int32Array(16_384);

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /**
   * Writes the ids of `text` to ids[at…).
   * @returns how many; undefined for a text that the tokenizer refuses (too long)
   */
  encodeAt(text: string, at: number): number | undefined {
    try {
      let count = this.#tokenizer.encodeInto(text, this.ids, at);
      if (count >= this.ids.length - at) {
        const grown = new Int32Array(at + 2 * count + 1);
        grown.set(this.ids.subarray(0, at));
        this.ids = grown;
        count = this.#tokenizer.encodeInto(text, this.ids, at);
      }
      return count;
    } catch (error) {
      if (error instanceof TrainerError && error.code === 'SOURCE_MALFORMED') return undefined;
      throw error;
    }
  }
}

export class ExampleEncoder {
  readonly #encoder: TextIds;
  readonly #eosId: number;
  readonly #limits: FeatureLengths;

  constructor(tokenizer: Tokenizer, limits: FeatureLengths) {
    this.#encoder = new TextIds(tokenizer);
    this.#eosId = tokenizer.eosId;
    this.#limits = limits;
  }

  encode({ inputs, targets }: TextPair): EncodedExample {
    const numInputs = this.#encoder.encodeAt(inputs, 0);
    if (numInputs === undefined || numInputs === 0) return emptyOrTooLong('inputs', numInputs);
    const inputsLength = this.#end(0, numInputs, this.#limits.inputs);
    const numTargets = this.#encoder.encodeAt(targets, inputsLength);
    if (numTargets === undefined || numTargets === 0) return emptyOrTooLong('targets', numTargets);
    const targetsLength = this.#end(inputsLength, numTargets, this.#limits.targets);
    return {
      ok: true,
      tokens: this.#encoder.ids.subarray(0, inputsLength + targetsLength),
      inputsLength,
      cut: { inputs: numInputs + 1 - inputsLength, targets: numTargets + 1 - targetsLength },
    };
  }

  /** Cuts `count` ids at `at` so that EOS fits, and sets EOS. @returns the length with EOS */
  #end(at: number, count: number, limit: number): number {
    const kept = Math.min(count, limit - 1);
    this.#encoder.ids[at + kept] = this.#eosId;
    return kept + 1;
  }
}

function emptyOrTooLong(what: string, count: number | undefined): EncodedExample {
  const reason =
    count === undefined ? 'the text is too long for the tokenizer' : 'no token is left after normalisation';
  return { ok: false, reason: `${what}: ${reason}` };
}

/**
 * Cuts the concatenation of documents into segments of exactly `segmentLength` tokens, nothing between two documents.
 * What is left behind the last full segment is dropped, so that every example has the same lengths.
 */
export class SegmentCutter {
  readonly #segment: Int32Array;
  #filled = 0;

  constructor(segmentLength: number) {
    this.#segment = new Int32Array(segmentLength);
  }

  /** Tokens of the segment that is not full. */
  get numLeft(): number {
    return this.#filled;
  }

  /** Segments that become full by these tokens; each is valid until the next is asked for. */
  *push(tokens: Int32Array): Generator<Int32Array> {
    for (let at = 0; at < tokens.length;) {
      const taken = tokens.subarray(at, at + this.#segment.length - this.#filled);
      this.#segment.set(taken, this.#filled);
      this.#filled += taken.length;
      at += taken.length;
      if (this.#filled < this.#segment.length) return;
      this.#filled = 0;
      yield this.#segment;
    }
  }
}
