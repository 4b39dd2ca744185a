/** Compares named arrays with the model's names and sizes. */
import { TrainerError } from '../../shared/errors.ts';
import { numElements } from '../model/parameters.ts';

interface Named {
  readonly name: string;
  readonly shape: readonly number[];
}

/** @param needed 'all': none may be missing @throws CHECKPOINT_MISMATCH */
export function checkNames(
  arrays: ReadonlyMap<string, Float32Array>,
  specs: readonly Named[],
  what: string,
  needed: 'all' | 'some',
): void {
  const sizes = new Map(specs.map(({ name, shape }) => [name, numElements(shape)]));
  for (const [name, values] of arrays) {
    const size = sizes.get(name);
    if (size === undefined) throw mismatch(`${what} ${name} is not in the model`);
    if (size !== values.length) throw mismatch(`${what} ${name}: expected ${size} values, found ${values.length}`);
  }
  if (needed === 'some') return;
  const missing = specs.filter(({ name }) => !arrays.has(name));
  if (missing.length > 0) throw mismatch(`${missing.length} × ${what} missing, the first is ${missing[0]!.name}`);
}

function mismatch(problem: string): TrainerError {
  return new TrainerError('CHECKPOINT_MISMATCH', `${problem}; the weights are of another model configuration`);
}
