/** The identity of a model state: equal on all ranks, for any world size, after any resume. */
import { createHash } from 'node:crypto';
import { compareNames } from './shard-plan.ts';

/**
 * SHA-256 (hex) of the concatenated bytes of all parameters in name order, float32 little-endian, as on every machine that tfjs runs on.
 * Takes about 1 s for 1.5 GB: call it in a thread that may block so long.
 */
export function parameterDigest(parameters: ReadonlyMap<string, Float32Array>): string {
  const hash = createHash('sha256');
  for (const name of [...parameters.keys()].sort(compareNames)) {
    const { buffer, byteOffset, byteLength } = parameters.get(name)!;
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}
