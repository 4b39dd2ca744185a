/** One number for "these are the same parameters": equal on all ranks, at any world size, after any resume. */
import { createHash } from 'node:crypto';
import { compareNames } from './shard-plan.ts';

/**
 * SHA-256 (hex) of the bytes of all parameters in name order, float32 little-endian (that of every machine tfjs runs on),
 * nothing between them. Takes about 1 s for 1.5 GB: call it in a thread that may.
 */
export function parameterDigest(parameters: ReadonlyMap<string, Float32Array>): string {
  const hash = createHash('sha256');
  for (const name of [...parameters.keys()].sort(compareNames)) {
    const { buffer, byteOffset, byteLength } = parameters.get(name)!;
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}
