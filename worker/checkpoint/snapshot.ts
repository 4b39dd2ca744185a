/** Copies of tensors in shared memory, for a thread that writes or a peer that copies them while training continues. */
import { tensorBytes, type TensorSpec } from '../../shared/checkpoint/shard-plan.ts';
import { assertInvariant } from '../../shared/errors.ts';

/** Shared memory for one set of tensors; made once and filled at each save. */
export class TensorSnapshot {
  /** Float32Arrays over SharedArrayBuffers, by name. */
  readonly tensors: ReadonlyMap<string, Float32Array>;

  /** @param specs the memory is their sum: as much again as parameters (or slots) take */
  constructor(specs: readonly TensorSpec[]) {
    this.tensors = new Map(
      specs.map((spec) => [spec.name, new Float32Array(new SharedArrayBuffer(tensorBytes(spec)))] as const),
    );
  }

  /**
   * Copies the tensors as they are now. Call it at a step boundary, and not while the snapshot is being written.
   * @param read gives the values of a tensor, by name
   * @throws INTERNAL where a tensor has another length
   */
  fill(read: (name: string) => Float32Array): void {
    for (const [name, held] of this.tensors) {
      const values = read(name);
      assertInvariant(values.length === held.length, `${name}: ${held.length} values expected, ${values.length} found`);
      held.set(values);
    }
  }
}
