/**
 * Text → ids as shards hold them. Supervised examples: inputs, EOS, targets, EOS; each side is cut to its feature
 * length and keeps its EOS. Denoising segments: documents joined without separators and cut into equal parts.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { FeatureLengths, TextPair } from '../tasks/task.ts';

/** A task module may cut a text anywhere. A tokenizer would make it U+FFFD. */
export const CUT_CHARACTER = 'half of a surrogate pair: the text was cut inside a character';

export type EncodedExample =
  | {
      readonly ok: true;
      /** Inputs, then targets. Valid until the next call. */
      readonly tokens: Int32Array;
      readonly inputsLength: number;
      /** Tokens that were cut from each side. 0 if it fits. */
      readonly cut: { readonly inputs: number; readonly targets: number };
    }
  | { readonly ok: false; readonly reason: string };

/** Encodes texts into one buffer that is reused and grows as needed. */
export class TextIds {
  readonly #tokenizer: Tokenizer;
  ids = new Int32Array(16_384);

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /**
   * Writes the ids of `text` to ids[at…).
   * @returns how many; undefined if the text is too long for the tokenizer
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
    if (!inputs.isWellFormed()) return { ok: false, reason: `inputs: ${CUT_CHARACTER}` };
    if (!targets.isWellFormed()) return { ok: false, reason: `targets: ${CUT_CHARACTER}` };
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

  /** Cuts `count` ids at `at` so that EOS fits, and appends EOS. @returns the length with EOS */
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
 * Cuts the concatenation of documents into segments of exactly `segmentLength` tokens, without separators. The tokens
 * after the last full segment are dropped, so that all examples have the same lengths.
 */
export class SegmentCutter {
  readonly #segment: Int32Array;
  #filled = 0;

  constructor(segmentLength: number) {
    this.#segment = new Int32Array(segmentLength);
  }

  /** Tokens in the segment that is not full. */
  get numLeft(): number {
    return this.#filled;
  }

  /** Segments that these tokens complete. Each is valid until the next is requested. */
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
