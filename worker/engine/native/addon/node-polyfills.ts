/**
 * What `@tensorflow/tfjs-node-gpu` 4.22.0 calls of `node:util` and newer Nodes no longer have (gone since Node 23): put back under the
 * old names, with the meaning Node 20 documents. To be imported before anything of that package.
 */
import util from 'node:util';

const REMOVED: Readonly<Record<string, (value: unknown) => boolean>> = {
  isNullOrUndefined: (value) => value === null || value === undefined,
  isArray: (value) => Array.isArray(value),
};

for (const [name, value] of Object.entries(REMOVED))
  if (!(name in util)) Object.defineProperty(util, name, { value, configurable: true, writable: true });
