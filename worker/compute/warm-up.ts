/**
 * A first step on synthetic numbers before the worker is ready: graphs are recorded and checked, kernels compiled, memory allocated. The first
 * step of a generation is otherwise as slow as its slowest rank. Workers that join later are checked by the same numbers.
 *
 * The engine's content afterwards is no state of the run: the first state of every member is loaded over it.
 */
import { createBatchArrays, placeExamples } from '../../mixture/feed/batch.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { Engine } from '../engine/engine.ts';
import { numElements, type ParameterSpec } from '../model/parameters.ts';

/** Share of a row for each of its examples; the rest is padding. */
const SHARES = [0.5, 0.25];
/** 0 and 1 are padding and the end of a sequence. */
const FIRST_WORD = 2;

/** @throws the engine's ENGINE_OUT_OF_MEMORY, TENSOR_LEAK */
export async function warmUp(
  engine: Pick<Engine, 'parameters' | 'load' | 'step' | 'apply'>,
  { model, featureLengths, training }: RunConfig,
): Promise<void> {
  const { parameters } = engine;
  await engine.load(new Map(parameters.map((spec) => [spec.name, madeUpValues(spec)])), 'zero');
  const batch = createBatchArrays(training.microbatchRows, featureLengths.inputs, featureLengths.targets);
  const words = (length: number): Int32Array =>
    Int32Array.from({ length }, (_, i) => FIRST_WORD + Math.floor(fraction(i) * (model.vocabSize - FIRST_WORD)));
  for (let row = 0; row < batch.numRows; row++) {
    const examples = SHARES.map((share) => ({
      task: 0,
      inputs: words(Math.floor(share * batch.inputsLength)),
      targets: words(Math.floor(share * batch.targetsLength)),
    }));
    placeExamples(batch, row, examples);
  }
  const keys = training.dropout.rate === 0 ? {} : { dropoutKeys: new Int32Array(2 * batch.numRows) };
  await engine.step({ ...batch, ...keys }, () => undefined);
  const sizes = parameters.map(({ shape }) => numElements(shape));
  const zeros = new Float32Array(sizes.reduce((a, b) => Math.max(a, b), 0));
  const gradients = sizes.map((size) => zeros.subarray(0, size));
  await engine.apply(gradients, { step: 0, learningRate: 1e-3, gradientScale: 1 });
}

/** As large as initial values of a run, computed in a fraction of the time. */
function madeUpValues({ shape, initializer }: ParameterSpec): Float32Array {
  const values = new Float32Array(numElements(shape));
  if (initializer.kind === 'ones') return values.fill(1);
  for (let i = 0; i < values.length; i++) values[i] = initializer.standardDeviation * (2 * fraction(i) - 1);
  return values;
}

/** Evenly spread numbers in [0, 1): multiples of the golden ratio. */
function fraction(i: number): number {
  return (Math.imul(i, 0x9e3779b1) >>> 0) / 2 ** 32;
}
