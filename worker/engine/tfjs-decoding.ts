/**
 * Decoding on a tfjs backend: the encoder once, then one position of all hypotheses a call, with keys and values kept.
 *
 * Hypotheses lie in a grid, examples by hypotheses of an example, so that cross-attention reads an example's keys once for all of them. An
 * example that has no hypothesis any more leaves when at most half of the grid's examples are left: shapes stay few.
 *
 * The session holds tensors between calls; `dispose` frees them. The engine's parameters must not change meanwhile.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor2D } from '@tensorflow/tfjs';
import type { Candidates } from '../../evaluation/decoding/search.ts';
import { EOS_TOKEN, START_TOKEN } from '../../evaluation/decoding/settings.ts';
import { assertInvariant } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import type { KeysAndValues } from '../model/attention.ts';
import { decodeNext, encodeInputs, type EncodedInputs, type Weights } from '../model/t5.ts';
import type { Decoding, GenerationInputs } from './engine.ts';

/** A hypothesis of the call before: where it lies, and its tokens. */
interface Hypothesis {
  readonly example: number;
  /** Row of the grid. */
  readonly row: number;
  /** With the start token. */
  readonly tokens: readonly number[];
}

export class TfjsDecoding implements Decoding {
  readonly vocabSize: number;
  readonly #config: ModelConfig;
  readonly #weights: Weights;
  #encoded: EncodedInputs;
  /** Examples of the grid, by their number in the inputs. */
  #examples: readonly number[];
  /** Keys and values of the positions so far by decoder block; rows are those of the grid. */
  #cache: readonly KeysAndValues[] = [];
  #hypotheses: readonly Hypothesis[];

  /** Runs the encoder. @param weights by name; they stay the engine's */
  constructor(config: ModelConfig, weights: Weights, inputs: GenerationInputs) {
    this.#config = config;
    this.#weights = weights;
    this.vocabSize = config.vocabSize;
    this.#examples = Array.from({ length: inputs.numRows }, (_, example) => example);
    this.#hypotheses = this.#examples.map((example) => ({ example, row: example, tokens: [] }));
    const { numRows, inputsLength } = inputs;
    this.#encoded = keeping(() => {
      const ids_M = tf.tensor1d(inputs.encoderInputIds, 'int32');
      const segmentIds = tf.tensor2d(inputs.encoderSegmentIds, [numRows, inputsLength], 'int32');
      return encodeInputs(weights, config, { ids_M, segmentIds });
    });
  }

  advance(
    parents: readonly number[],
    tokens: readonly number[],
    numCandidates: number,
  ): Promise<readonly Candidates[]> {
    assertInvariant(numCandidates <= this.vocabSize, `${numCandidates} candidates of ${this.vocabSize} tokens`);
    const continued = parents.map((parent, at) => {
      const { example, row, tokens: before } = this.#hypotheses[parent]!;
      return { example, row, tokens: [...before, tokens[at]!] };
    });
    this.#dropFinished(continued);
    const grid = this.#place(continued);
    const next = keeping(() => {
      const past = this.#cache.map((block) => selectRows(block, grid.parentRows));
      return decodeNext(this.#weights, this.#config, this.#encoded, tf.tensor1d(grid.tokens, 'int32'), past);
    });
    disposeAll(this.#cache);
    this.#cache = next.present;
    this.#hypotheses = continued.map((hypothesis, at) => ({ ...hypothesis, row: grid.rows[at]! }));
    const candidates = readCandidates(next.logits_MV, this.#hypotheses, numCandidates);
    next.logits_MV.dispose();
    return Promise.resolve(candidates);
  }

  dispose(): void {
    disposeAll(this.#cache);
    disposeEncoded(this.#encoded);
    this.#cache = [];
  }

  /** Examples without a hypothesis leave the encoded inputs once they are half of them or more. */
  #dropFinished(continued: readonly Hypothesis[]): void {
    const left = [...new Set(continued.map(({ example }) => example))];
    if (2 * left.length > this.#examples.length || this.#examples.length === 1) return;
    const places = left.map((example) => this.#examples.indexOf(example));
    const before = this.#encoded;
    this.#encoded = keeping(() => ({
      cross: before.cross.map((block) => selectRows(block, places)),
      crossBias_B11S: tf.gather(before.crossBias_B11S, tf.tensor1d(places, 'int32')),
    }));
    disposeEncoded(before);
    this.#examples = left;
  }

  /** Rows of the hypotheses in a grid of equally many for each example. Rows without a hypothesis repeat one, and nobody reads them. */
  #place(continued: readonly Hypothesis[]): {
    readonly rows: number[];
    readonly parentRows: number[];
    readonly tokens: number[];
  } {
    const byExample = new Map<number, number[]>(this.#examples.map((example) => [example, []]));
    continued.forEach(({ example }, at) => byExample.get(example)!.push(at));
    const width = Math.max(...[...byExample.values()].map(({ length }) => length));
    const rows = new Array<number>(continued.length);
    const parentRows: number[] = [];
    const tokens: number[] = [];
    this.#examples.forEach((example, place) => {
      const members = byExample.get(example)!;
      for (let slot = 0; slot < width; slot++) {
        const at = members[slot] ?? members[0];
        if (slot < members.length) rows[members[slot]!] = place * width + slot;
        parentRows.push(at === undefined ? 0 : continued[at]!.row);
        tokens.push(at === undefined ? START_TOKEN : continued[at]!.tokens.at(-1)!);
      }
    });
    return { rows, parentRows, tokens };
  }
}

/** Runs without leaving other tensors than those of the result. tfjs's type of a result has no read-only arrays. */
function keeping<Result extends object>(run: () => Result): Result {
  return tf.tidy(() => run() as Result & tf.TensorContainerObject);
}

/** Rows of keys and values; the same tensors where nothing moves. */
function selectRows({ keys, values }: KeysAndValues, rows: readonly number[]): KeysAndValues {
  if (rows.length === keys.shape[0] && rows.every((row, at) => row === at)) return { keys, values };
  const indices = tf.tensor1d([...rows], 'int32');
  return { keys: tf.gather(keys, indices), values: tf.gather(values, indices) };
}

function disposeAll(cache: readonly KeysAndValues[]): void {
  tf.dispose(cache.flatMap(({ keys, values }): Tensor[] => [keys, values]));
}

function disposeEncoded({ cross, crossBias_B11S }: EncodedInputs): void {
  disposeAll(cross);
  crossBias_B11S.dispose();
}

/** Log-softmax of the logits at the likeliest tokens, and at EOS and each hypothesis's own tokens. The whole rows stay in the backend. */
function readCandidates(
  logits_MV: Tensor2D,
  hypotheses: readonly Hypothesis[],
  numCandidates: number,
): readonly Candidates[] {
  const vocabSize = logits_MV.shape[1];
  const numOwn = 1 + hypotheses[0]!.tokens.length;
  const ownPlaces = hypotheses.flatMap(({ row, tokens }) => [EOS_TOKEN, ...tokens].map((id) => row * vocabSize + id));
  const tensors = tf.tidy(() => {
    const { values, indices } = tf.topk(logits_MV, numCandidates);
    const own = tf.gather(tf.reshape<tf.Rank.R1>(logits_MV, [-1]), tf.tensor1d(ownPlaces, 'int32'));
    return [indices, values, own, tf.logSumExp(logits_MV, 1)];
  });
  const [ids, best, own, normalizers] = tensors.map((tensor) => tensor.dataSync<'float32'>().slice()) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  tf.dispose(tensors);
  return hypotheses.map(({ row }, at) => {
    const logNormalizer = normalizers[row]!;
    const relative = (logits: Float32Array): Float32Array => logits.map((logit) => logit - logNormalizer);
    const start = row * numCandidates;
    return {
      ids: ids.subarray(start, start + numCandidates),
      logProbabilities: relative(best.subarray(start, start + numCandidates)),
      logNormalizer,
      ownLogProbabilities: relative(own.subarray(at * numOwn, (at + 1) * numOwn)),
    };
  });
}
