/**
 * Functions of `node:util` that `@tensorflow/tfjs-node-gpu` 4.22.0 calls and Node 23 removed: restored under the old names, with the meaning
 * that Node 20 documents. Import it before any module of that package.
 */
import util from 'node:util';

const REMOVED: Readonly<Record<string, (value: unknown) => boolean>> = {
  isNullOrUndefined: (value) => value === null || value === undefined,
  isArray: (value) => Array.isArray(value),
};

for (const [name, value] of Object.entries(REMOVED))
  if (!(name in util)) Object.defineProperty(util, name, { value, configurable: true, writable: true });
