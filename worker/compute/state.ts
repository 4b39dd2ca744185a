/** The state a worker starts from and saves: parameters and optimizer slots by name, in shared memory for the save thread. */
import type { Engine } from '../engine/engine.ts';
import { numElements } from '../model/parameters.ts';

export interface HostState {
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizer: ReadonlyMap<string, Float32Array>;
}

/** Room for everything the engine holds, zeroed, in SharedArrayBuffers. */
export function allocateHostState(engine: Engine): HostState {
  const allocate = (entries: readonly { name: string; shape: readonly number[] }[]) =>
    new Map(
      entries.map(
        ({ name, shape }) => [name, new Float32Array(new SharedArrayBuffer(4 * numElements(shape)))] as const,
      ),
    );
  return { parameters: allocate(engine.parameters), optimizer: allocate(engine.optimizerSlots) };
}
