/**
 * The initial parameters of a run: a pure function of the seed and the parameter's name. So every worker computes the same bytes by itself, and
 * another parameter changes none of the others.
 */
import { hashName, RandomStream } from '../../shared/random.ts';
import { numElements, type ParameterSpec } from './parameters.ts';

/** @param seed of the run, a non-negative integer below 2^53 @returns row-major values of the shape */
export function initialiseParameter(spec: ParameterSpec, seed: number): Float32Array {
  const values = new Float32Array(numElements(spec.shape));
  if (spec.initializer.kind === 'ones') return values.fill(1);
  const { standardDeviation } = spec.initializer;
  const stream = new RandomStream([seed, hashName('init'), hashName(spec.name)]);
  for (let i = 0; i < values.length; i++) values[i] = standardDeviation * stream.nextNormal();
  return values;
}

/** All parameters by name. */
export function initialiseParameters(specs: readonly ParameterSpec[], seed: number): Map<string, Float32Array> {
  return new Map(specs.map((spec) => [spec.name, initialiseParameter(spec, seed)]));
}
