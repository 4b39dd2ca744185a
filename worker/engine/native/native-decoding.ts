/** Decoding on the native engine: which places of the pools each hypothesis reads (decoding-graph.ts). */
import { setImmediate } from 'node:timers/promises';
import type { Candidates } from '../../../evaluation/decoding/search.ts';
import { EOS_TOKEN } from '../../../evaluation/decoding/settings.ts';
import { assertInvariant } from '../../../shared/errors.ts';
import type { ModelConfig } from '../../../shared/model-config.ts';
import type { Decoding, GenerationInputs } from '../engine.ts';
import { bucketsAt, type DecodingGraph, type StepResults } from './decoding-graph.ts';

/** Places of hypotheses are fed in lists of a multiple of it. */
const PLACES_STEP = 16;

interface Hypothesis {
  readonly example: number;
  /** With the start token. */
  readonly tokens: readonly number[];
  /** Of each token's keys and values. */
  readonly places: readonly number[];
}

export class NativeDecoding implements Decoding {
  readonly vocabSize: number;
  readonly #graph: DecodingGraph;
  readonly #config: ModelConfig;
  readonly #inputsLength: number;
  /** By example: the places of its inputs, ended by −1 where there is padding. */
  readonly #crossPlaces: readonly Int32Array[];
  #hypotheses: readonly Hypothesis[];
  #numPlaces = 0;

  /** @param graph has encoded the inputs */
  constructor(graph: DecodingGraph, config: ModelConfig, inputs: GenerationInputs) {
    const { numRows, inputsLength, encoderSegmentIds } = inputs;
    this.#graph = graph;
    this.#config = config;
    this.vocabSize = config.vocabSize;
    this.#inputsLength = inputsLength;
    this.#crossPlaces = Array.from({ length: numRows }, (_, example) => {
      const places = Int32Array.from({ length: inputsLength }, (_, s) => example * inputsLength + s).filter(
        (place) => encoderSegmentIds[place] === 1,
      );
      assertInvariant(places.length > 0, `example ${example} has no input token`);
      const ended = new Int32Array(inputsLength).fill(-1);
      ended.set(places);
      return ended;
    });
    this.#hypotheses = Array.from({ length: numRows }, (_, example) => ({ example, tokens: [], places: [] }));
  }

  async advance(
    parents: readonly number[],
    tokens: readonly number[],
    numCandidates: number,
  ): Promise<readonly Candidates[]> {
    assertInvariant(numCandidates <= this.vocabSize, `${numCandidates} candidates of ${this.vocabSize} tokens`);
    const firstPlace = this.#numPlaces;
    const hypotheses = parents.map((parent, row) => {
      const before = this.#hypotheses[parent]!;
      const places = [...before.places, firstPlace + row];
      return { example: before.example, tokens: [...before.tokens, tokens[row]!], places };
    });
    const position = hypotheses[0]!.places.length - 1;
    const length = PLACES_STEP * Math.ceil((position + 1) / PLACES_STEP);
    const selfPlaces = new Int32Array(hypotheses.length * length).fill(-1);
    const crossPlaces = new Int32Array(hypotheses.length * this.#inputsLength);
    const given = new Int32Array(hypotheses.length * (1 + length)).fill(EOS_TOKEN);
    hypotheses.forEach(({ example, places, tokens: own }, row) => {
      selfPlaces.set(places, row * length);
      crossPlaces.set(this.#crossPlaces[example]!, row * this.#inputsLength);
      given.set(own, row * (1 + length) + 1);
    });
    const candidates = this.#graph.step(
      {
        tokens: Int32Array.from(tokens),
        selfPlaces,
        crossPlaces,
        buckets: bucketsAt(this.#config, position, length),
        given,
        numCandidates,
        firstPlace,
      },
      (results) => hypotheses.map((_, row) => candidatesOf(results, row, numCandidates, 1 + length, position + 2)),
    );
    this.#hypotheses = hypotheses;
    this.#numPlaces += hypotheses.length;
    await setImmediate(); // views of a run cost Node memory until its event loop turns
    return candidates;
  }

  dispose(): void {
    this.#graph.close();
  }
}

function candidatesOf(
  { ids, logits, givenLogits, normalizers }: StepResults,
  row: number,
  numCandidates: number,
  numGiven: number,
  numOwn: number,
): Candidates {
  const logNormalizer = normalizers[row]!;
  const relative = (values: Float32Array, start: number, count: number): Float32Array =>
    values.slice(start, start + count).map((logit) => logit - logNormalizer);
  return {
    ids: ids.slice(row * numCandidates, (row + 1) * numCandidates),
    logProbabilities: relative(logits, row * numCandidates, numCandidates),
    logNormalizer,
    ownLogProbabilities: relative(givenLogits, row * numGiven, numOwn),
  };
}
