/** A `source:` entry of a mixture file → SourceSpec with absolute paths. */
import { basename, isAbsolute, resolve } from 'node:path';
import { localPathOf } from '../../shared/storage/location.ts';
import type { SourceEntry } from './mixture-schema.ts';
import type { SourceFile, SourceSpec } from './task.ts';

/** @param entry checked by the schema @param folder base of relative paths */
export function buildSource(entry: SourceEntry, folder: string): SourceSpec {
  const { hub, config, split = 'train', revision, files, format, quotes = true } = entry;
  if (hub !== undefined)
    return {
      kind: 'hub',
      dataset: hub,
      split,
      ...(config === undefined ? {} : { config }),
      ...(revision === undefined ? {} : { revision }),
      ...(files === undefined ? {} : { files: listOf(files) }),
      format: format ?? 'parquet',
      quotes,
    };
  return {
    kind: 'files',
    format: format ?? 'jsonl',
    quotes,
    files: listOf(entry.path ?? []).map((path) => buildFile(path, folder)),
  };
}

function buildFile(path: string, folder: string): SourceFile {
  const local = localPathOf(path);
  if (local !== undefined)
    return {
      location: resolve(folder, local),
      name: (isAbsolute(local) ? basename(local) : local).replaceAll('\\', '/'),
    };
  // The name has no query, which may hold a signature, and no login.
  return { location: path, name: path.replace(/[?#].*$/u, '').replace(/^(https?:\/\/)[^/@]*@/iu, '$1') };
}

export function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}
